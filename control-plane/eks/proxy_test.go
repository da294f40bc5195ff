package eks_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/control-plane/bearer"
)

// proxied is an unmodified SDK client behind `ovenbird proxy`, run by who holds the key.
func (s *site) proxied(id string) (*awseks.Client, string) {
	s.Helper()
	endpoint, err := bearer.ParseEndpoint(s.url)
	if err != nil {
		s.Fatal(err)
	}
	config := s.config(id, "hush")
	number, err := bearer.Account(s.Context(), config)
	if err != nil || number != account {
		s.Fatalf("the account is %q, %v", number, err)
	}
	proxy := bearer.Proxy{
		Client:      bearer.Client{Endpoint: endpoint, Tokens: bearer.NewTokens(config, number, nil), Transport: s.http.Transport},
		Credentials: config.Credentials, Region: "us-west-2", Log: s.log,
	}
	server := httptest.NewServer(proxy.Handler())
	s.Cleanup(server.Close)
	return client(server.URL, id, "hush", "session"), server.URL
}

func TestTheSDKReachesTheAPIThroughTheProxy(t *testing.T) {
	s := open(t)
	sdk, _ := s.proxied("ASIAJANE")
	created, err := sdk.CreateCluster(t.Context(), createInput("blue"))
	if err != nil || *created.Cluster.Name != "blue" {
		t.Fatalf("got %+v, %v", created, err)
	}
	if e := s.last(); e.Principal != jane || e.Proof != "bearer" || e.Operation != "eks:CreateCluster" || e.Resource != "arn:aws:eks:us-west-2:111122223333:cluster/blue" {
		t.Errorf("recorded %+v", e)
	}
	if c, err := s.registry.Get(t.Context(), "blue"); err != nil || c.CreatedBy != "arn:aws:iam::111122223333:role/operators" {
		t.Errorf("created by %s, %v", c.CreatedBy, err)
	}
	if _, err := sdk.CreateAccessEntry(t.Context(), &awseks.CreateAccessEntryInput{ClusterName: aws.String("blue"), PrincipalArn: aws.String(nodeRole), Type: aws.String("EC2_LINUX")}); err != nil {
		t.Error(err)
	}
	// An ARN in the path stays one segment on its way.
	entry, err := sdk.DescribeAccessEntry(t.Context(), &awseks.DescribeAccessEntryInput{ClusterName: aws.String("blue"), PrincipalArn: aws.String(nodeRole)})
	if err != nil || *entry.AccessEntry.PrincipalArn != nodeRole {
		t.Errorf("got %+v, %v", entry, err)
	}
	_, err = sdk.CreateCluster(t.Context(), createInput("green"))
	var denied smithy.APIError
	if !errors.As(err, &denied) || denied.ErrorCode() != "AccessDeniedException" || !strings.Contains(denied.ErrorMessage(), "eks:CreateCluster on resource: arn:aws:eks:us-west-2:111122223333:cluster/green") {
		t.Errorf("another's cluster: %v", err)
	}
	own, _ := s.proxied("ASIANODE")
	if _, err := own.DescribeCluster(t.Context(), &awseks.DescribeClusterInput{Name: aws.String("blue")}); err != nil {
		t.Errorf("a node, its own cluster: %v", err)
	}
}

func TestTheProxyIsNobodyElses(t *testing.T) {
	s := open(t)
	_, address := s.proxied("ASIAJANE")
	code := func(err error) string {
		var refused smithy.APIError
		if !errors.As(err, &refused) {
			return fmt.Sprint(err)
		}
		return refused.ErrorCode()
	}
	for name, stranger := range map[string]*awseks.Client{
		"another key":           client(address, "ASIANODE", "hush", "session"),
		"a guessed secret":      client(address, "ASIAJANE", "guess", "session"),
		"another session token": client(address, "ASIAJANE", "hush", "guess"),
	} {
		if _, err := stranger.ListClusters(t.Context(), &awseks.ListClustersInput{}); code(err) != "AccessDeniedException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tt := range []struct {
		path   string
		status int
	}{
		{"/clusters", 403}, // unsigned
		{"/", 404}, {"/metrics", 404}, {"/clusters/../metrics", 404}, {"/clusters/%2e%2e/metrics", 404}, {"//clusters", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = tt.path
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		var said struct{ Message string }
		err = json.NewDecoder(answer.Body).Decode(&said)
		answer.Body.Close()
		if answer.StatusCode != tt.status || err != nil || said.Message == "" || answer.Header.Get("X-Amzn-Errortype") == "" {
			t.Errorf("%s: %s %q, %v, want %d", tt.path, answer.Status, said.Message, err, tt.status)
		}
	}
	if len(s.events) != 0 {
		t.Errorf("the service was called: %+v", s.events)
	}
}

func TestATokenGoesToTheServiceAloneAndOverTLS(t *testing.T) {
	s := open(t)
	for _, endpoint := range []string{"http://127.0.0.1:1", "https://", "https://user@host", "https://host/path", "https://host?x=y", "ftp://host"} {
		if _, err := bearer.ParseEndpoint(endpoint); err == nil {
			t.Errorf("%s is taken for an endpoint", endpoint)
		}
	}
	endpoint, err := bearer.ParseEndpoint("https://eks.example.internal")
	if err != nil {
		t.Fatal(err)
	}
	sent := roundTripper(func(r *http.Request) { t.Errorf("a token was sent to %s", r.URL) })
	c := bearer.Client{Endpoint: endpoint, Tokens: bearer.NewTokens(s.config("ASIAJANE", "hush"), account, nil), Transport: sent}
	for _, target := range []string{"http://eks.example.internal/clusters", "https://eks.example.internal:8443/clusters", "https://evil.example/clusters"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := c.Do(r); err == nil {
			answer.Body.Close()
			t.Errorf("%s: sent", target)
		}
	}
	// Whoever cannot verify the service sends nothing, either.
	untrusting := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if endpoint, err = bearer.ParseEndpoint(s.url); err != nil {
		t.Fatal(err)
	}
	c = bearer.Client{Endpoint: endpoint, Tokens: c.Tokens, Transport: untrusting}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/clusters", nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := c.Do(r); err == nil {
		answer.Body.Close()
		t.Error("a service that is not trusted was called")
	}
	if len(s.events) != 0 {
		t.Errorf("the service was called: %+v", s.events)
	}
}

type roundTripper func(*http.Request)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	f(r)
	return nil, errors.New("sent")
}
