package awsquery_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ovenbird-dev/ovenbird/agent/awsquery"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// role holds one key.
type role struct{}

func (role) Lookup(context.Context, string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "to/ken+=="}, nil
}

func service(t *testing.T, handler http.HandlerFunc) awsquery.Service {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return awsquery.Service{
		Name: "autoscaling", Version: "2011-01-01", Region: "us-west-2", Endpoint: server.URL, Client: server.Client(), Now: time.Now,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "to/ken+=="}, nil
		}),
	}
}

func TestACallIsSignedAsAWSVerifiesIt(t *testing.T) {
	verifier := sigv4.Verifier{Keys: role{}, Region: "us-west-2", Service: "autoscaling"}
	var body string
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := verifier.Verify(r); err != nil {
			t.Errorf("the signature: %v", err)
		}
		data, _ := io.ReadAll(r.Body)
		body = string(data)
	})
	if err := s.Call(t.Context(), "CompleteLifecycleAction", url.Values{"AutoScalingGroupName": {"a b&c"}}); err != nil {
		t.Fatal(err)
	}
	if want := "Action=CompleteLifecycleAction&AutoScalingGroupName=a+b%26c&Version=2011-01-01"; body != want {
		t.Errorf("the body is %q, want %q", body, want)
	}
}

func TestARefusalSaysWhatTheServiceSaid(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   awsquery.Error
	}{
		"as AWS does":           {"<ErrorResponse>\n<Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate\n exceeded</Message></Error></ErrorResponse>", awsquery.Error{Status: 400, Code: "Throttling", Message: "Rate exceeded"}},
		"as a proxy on the way": {"<html>bad gateway</html>", awsquery.Error{Status: 400, Code: "(no Code)", Message: "(no Message)"}},
		"cut off":               {"<Error><Code>Throttling", awsquery.Error{Status: 400, Code: "(no Code)", Message: "(no Message)"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, test.answer)
			})
			var refused *awsquery.Error
			if err := s.Call(t.Context(), "X", nil); !errors.As(err, &refused) || *refused != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestAnEndpointThatIsNotHTTPSIsNotCalled(t *testing.T) {
	s := service(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	s.Endpoint = strings.Replace(s.Endpoint, "https:", "http:", 1)
	if err := s.Call(t.Context(), "X", nil); err == nil || !strings.Contains(err.Error(), "https://host") {
		t.Errorf("got %v", err)
	}
}
