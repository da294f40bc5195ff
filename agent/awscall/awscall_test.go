package awscall_test

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

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// role holds one key.
type role struct{}

func (role) Lookup(context.Context, string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "to/ken+=="}, nil
}

func service(t *testing.T, handler http.HandlerFunc) awscall.Service {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return awscall.Service{
		Name: "autoscaling", Region: "us-west-2", Endpoint: server.URL, Client: server.Client(), Now: time.Now,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "to/ken+=="}, nil
		}),
	}
}

func TestACallOfAPathIsSignedAsAWSVerifiesIt(t *testing.T) {
	verifier := sigv4.Verifier{Keys: role{}, Region: "us-west-2", Service: "autoscaling"}
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := verifier.Verify(r); err != nil {
			t.Errorf("the signature: %v", err)
		}
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
	})
	s.Endpoint += "/" // as users write it
	answer, err := s.Call(t.Context(), awscall.Request{Method: http.MethodGet, Path: "/clusters/demo-1_a"})
	if err != nil || string(answer) != "GET /clusters/demo-1_a" {
		t.Errorf("got %q, %v", answer, err)
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
	if err := s.Query(t.Context(), "2011-01-01", "CompleteLifecycleAction", url.Values{"AutoScalingGroupName": {"a b&c"}}); err != nil {
		t.Fatal(err)
	}
	if want := "Action=CompleteLifecycleAction&AutoScalingGroupName=a+b%26c&Version=2011-01-01"; body != want {
		t.Errorf("the body is %q, want %q", body, want)
	}
}

func TestARefusalSaysWhatTheServiceSaid(t *testing.T) {
	for name, test := range map[string]struct {
		header, answer string
		want           awscall.Error
		text           string
	}{
		"by Query": {answer: "<ErrorResponse>\n<Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate\n exceeded</Message></Error></ErrorResponse>",
			want: awscall.Error{Status: 400, Code: "Throttling", Message: "Rate exceeded"}, text: "400 Throttling: Rate exceeded"},
		"by JSON": {answer: `{"__type":"com.amazonaws.ecr#ServerException","Message":"later"}`,
			want: awscall.Error{Status: 400, Code: "ServerException", Message: "later"}, text: "400 ServerException: later"},
		"by REST": {header: "AccessDeniedException:http://internal.amazon.com/coral/com.amazon.coral.service/", answer: `{"message":"no"}`,
			want: awscall.Error{Status: 400, Code: "AccessDeniedException", Message: "no"}, text: "400 AccessDeniedException: no"},
		"in a header alone":     {header: "ServerException", want: awscall.Error{Status: 400, Code: "ServerException"}, text: "400 ServerException"},
		"as a proxy on the way": {answer: "<html>bad gateway</html>", want: awscall.Error{Status: 400}, text: "400 Bad Request"},
		"cut off":               {answer: "<Error><Code>Throttling", want: awscall.Error{Status: 400}, text: "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.header != "" {
					w.Header().Set("X-Amzn-ErrorType", test.header)
				}
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, test.answer)
			})
			_, err := s.Call(t.Context(), awscall.Request{Method: http.MethodGet, Path: "/"})
			var refused *awscall.Error
			if !errors.As(err, &refused) || *refused != test.want || err.Error() != test.text {
				t.Errorf("got %v, want %s", err, test.text)
			}
		})
	}
}

func TestACallWithoutCredentialsIsNotMade(t *testing.T) {
	s := service(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	s.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, &url.Error{Op: "Get", URL: "http://169.254.169.254/", Err: io.EOF} // as the SDK's
	})
	_, err := s.Call(t.Context(), awscall.Request{Method: http.MethodGet, Path: "/"})
	if !errors.Is(err, awscall.ErrNoCredentials) || !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestAnEndpointThatIsNotHTTPSIsNotCalled(t *testing.T) {
	s := service(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	s.Endpoint = strings.Replace(s.Endpoint, "https:", "http:", 1)
	if err := s.Query(t.Context(), "2011-01-01", "X", nil); err == nil || !strings.Contains(err.Error(), "https://host") {
		t.Errorf("got %v", err)
	}
}
