package eks_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

func TestABearerIsWhomSTSNames(t *testing.T) {
	s := open(t)
	if _, err := s.registry.Create(t.Context(), registry.Cluster{Name: "blue"}, registry.AccessEntry{PrincipalARN: nodeRole, Type: registry.TypeEC2Linux}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.registry.Create(t.Context(), registry.Cluster{Name: "green"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, id, path string
		status         int
		principal      string
		operation      string
		resource       string
	}{
		{"an operator", "ASIAJANE", "/clusters/blue", 200, jane, "eks:DescribeCluster", "arn:aws:eks:us-west-2:111122223333:cluster/blue"},
		{"an operator, a list", "ASIAJANE", "/clusters", 200, jane, "eks:ListClusters", "*"},
		{"an operator, another's cluster", "ASIAJANE", "/clusters/green", 403, jane, "eks:DescribeCluster", "arn:aws:eks:us-west-2:111122223333:cluster/green"},
		{"an operator, a cluster that is not there", "ASIAJANE", "/clusters/blue2", 404, jane, "eks:DescribeCluster", "arn:aws:eks:us-west-2:111122223333:cluster/blue2"},
		{"an operator, what can be no name", "ASIAJANE", "/clusters/blue%0A", 403, jane, "eks:DescribeCluster", "*"},
		{"an operator, an access entry", "ASIAJANE", "/clusters/blue/access-entries/" + url.PathEscape(nodeRole), 200, jane, "eks:DescribeAccessEntry",
			"arn:aws:eks:us-west-2:111122223333:access-entry/blue/role/111122223333/ovenbird-node/*"},
		{"a node, its own cluster", "ASIANODE", "/clusters/blue", 200, node, "eks:DescribeCluster", "arn:aws:eks:us-west-2:111122223333:cluster/blue"},
		{"a node, another cluster", "ASIANODE", "/clusters/green", 403, node, "eks:DescribeCluster", "arn:aws:eks:us-west-2:111122223333:cluster/green"},
		{"a node, a list", "ASIANODE", "/clusters", 403, node, "eks:ListClusters", "*"},
	} {
		status, exception, body := s.get(tt.path, s.token(tt.id, audience))
		if status != tt.status {
			t.Errorf("%s: %d %s %s, want %d", tt.name, status, exception, body, tt.status)
		}
		if e := s.last(); e.Outcome != fmt.Sprint(tt.status) || e.Reason != exception || e.Principal != tt.principal || e.Proof != "bearer" || e.Operation != tt.operation ||
			e.Resource != tt.resource || e.Source != "127.0.0.1" || e.RequestID == "" || e.Duration <= 0 || e.Time.IsZero() {
			t.Errorf("%s: recorded %+v", tt.name, e)
		}
		if want := "User: " + tt.principal + " is not authorized to perform: " + tt.operation + " on resource: " + tt.resource; status == 403 && !strings.Contains(body, want) {
			t.Errorf("%s: says %s, want %s", tt.name, body, want)
		}
	}
}

func TestABearerWhomSTSDoesNotVouchForIsRefused(t *testing.T) {
	s := open(t)
	changed := func(old, new string) string {
		token := s.token("ASIAJANE", audience)
		presigned, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, ststoken.Prefix))
		if err != nil || !strings.Contains(string(presigned), old) {
			t.Fatalf("%q is not in the token: %v", old, err)
		}
		return ststoken.Prefix + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(presigned), old, new, 1)))
	}
	host := s.stsHost()
	for name, attack := range map[string]struct{ token, reason string }{
		"a token for a cluster":        {s.token("ASIAJANE", "blue"), "refused it with 403"},
		"a token for another region":   {s.token("ASIAJANE", "ovenbird-api/us-east-1/111122223333"), "refused it with 403"},
		"a token for another account":  {s.token("ASIAJANE", "ovenbird-api/us-west-2/444455556666"), "refused it with 403"},
		"a key that AWS does not know": {s.token("ASIANOBODY", audience), "refused it with 403"},
		"the audience not signed":      {changed("host%3Bx-k8s-aws-id", "host"), "not both signed"},
		"a parameter twice":            {changed("Action=", "Action=GetCallerIdentity&Action="), "not given exactly once"},
		"a parameter in another case":  {changed("Action=", "action=GetCallerIdentity&Action="), "query parameter that GetCallerIdentity does not"},
		"another STS":                  {changed(host, "sts.evil.example"), "host is not"},
		"the STS of another partition": {changed(host, "sts.cn-north-1.amazonaws.com.cn"), "host is not"},
		"the STS of another region":    {changed(host, "sts.us-east-1.amazonaws.com"), "host is not"},
		"a trailing dot":               {changed(host, strings.Replace(host, ":", ".:", 1)), "host is not"},
		"a user before the host":       {changed(host, "user@"+host), "more than host"},
		"a port":                       {changed(host, strings.Split(host, ":")[0]+":444"), "host is not"},
		"a path":                       {changed("/?", "/x/..?"), "path"},
		"a changed signature":          {changed("X-Amz-Signature=", "X-Amz-Signature=0"), "refused it with"},
		"a token of 5000 bytes":        {ststoken.Prefix + strings.Repeat("A", 5000), "longer than 4096"},
		"a JSON web token":             {"eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "does not begin with"},
		"nothing":                      {"", "does not begin with"},
	} {
		status, exception, body := s.get("/clusters", attack.token)
		if status != http.StatusForbidden || exception != "UnrecognizedClientException" || !strings.Contains(body, `"The security token included in the request is invalid."`) {
			t.Errorf("%s: got %d %s %s", name, status, exception, body)
		}
		if e := s.last(); e.Outcome != "403" || e.Principal != "" || e.Operation != "" {
			t.Errorf("%s: recorded %+v", name, e)
		}
		said := fmt.Sprint(s.logs.TakeAll())
		if !strings.Contains(said, attack.reason) || strings.Contains(said, "k8s-aws-v1.a") || strings.Contains(said, "ASIAJANE") {
			t.Errorf("%s: logged %s, want %q and nothing of the token", name, said, attack.reason)
		}
	}
}

func TestATokenEndsAfterFifteenMinutesEvenIfItIsRemembered(t *testing.T) {
	s := open(t)
	token := s.token("ASIAJANE", audience)
	if status, _, body := s.get("/clusters", token); status != 200 {
		t.Fatalf("fresh: %d %s", status, body)
	}
	s.now = func() time.Time { return time.Now().Add(15*time.Minute + 2*time.Second) }
	if status, exception, _ := s.get("/clusters", token); status != 403 || exception != "UnrecognizedClientException" {
		t.Errorf("after 15 minutes: %d %s", status, exception)
	}
}

func TestTroubleWithSTSIsNoRefusal(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"it fails":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"it throttles":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"it hangs":            func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"it says very much":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
		"it names nobody":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) },
		"it talks other than": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<xml/>`) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			s.become(answer)
			began := time.Now()
			status, exception, body := s.get("/clusters", s.token("ASIAJANE", audience))
			if status != 503 || exception != "ServiceUnavailableException" || strings.Contains(body, s.stsHost()) {
				t.Errorf("got %d %s %s", status, exception, body)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the answer took %s", took)
			}
			if e := s.last(); e.Outcome != "503" || e.Reason != "ServiceUnavailableException" {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

func TestAnSTSThatRedirectsIsNotFollowed(t *testing.T) {
	s := open(t)
	s.become(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/elsewhere?"+r.URL.RawQuery, http.StatusFound)
			return
		}
		fmt.Fprintf(w, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":%q,"Arn":%q,"UserId":"x"}}}`, account, jane)
	})
	if status, exception, _ := s.get("/clusters", s.token("ASIAJANE", audience)); status != 403 || exception != "UnrecognizedClientException" {
		t.Errorf("got %d %s", status, exception)
	}
}

func TestABearerOverPlainHTTPIsRefused(t *testing.T) {
	s := open(t)
	api, _ := handler(t, network{}, func(c *iam.Callers) { c.Tokens = refuseToBeAsked{t} }, operatorsMay, s, s.log)
	plain := httptest.NewServer(api)
	defer plain.Close()
	s.url, s.http = plain.URL, plain.Client()
	if status, exception, body := s.get("/clusters", s.token("ASIAJANE", audience)); status != 403 || exception != "AccessDeniedException" || !strings.Contains(body, "plain HTTP") {
		t.Errorf("got %d %s %s", status, exception, body)
	}
}

// refuseToBeAsked are tokens of a service that must not look at any.
type refuseToBeAsked struct{ *testing.T }

func (r refuseToBeAsked) Check(string) (string, error) {
	r.Error("a token was looked at")
	return "", errors.New("looked at")
}

func (r refuseToBeAsked) Verify(context.Context, string, string) (ststoken.Identity, error) {
	r.Error("STS was asked")
	return ststoken.Identity{}, errors.New("asked")
}

func TestASourceThatCallsTooOftenIsSlowedDown(t *testing.T) {
	s := open(t)
	api, _ := handler(t, network{}, func(c *iam.Callers) { c.Limit = iam.NewLimiter(0, 2, nil) }, operatorsMay, s, s.log)
	server := httptest.NewTLSServer(api)
	defer server.Close()
	s.url, s.http = server.URL, server.Client()
	for i, want := range []int{403, 403, 429} {
		if status, exception, _ := s.get("/clusters", "x"); status != want || want == 429 && exception != "ThrottlingException" {
			t.Errorf("call %d: %d %s, want %d", i+1, status, exception, want)
		}
		if e := s.last(); e.Outcome != fmt.Sprint(want) {
			t.Errorf("call %d: recorded as %+v", i+1, e)
		}
		if logged := len(s.logs.TakeAll()); logged != 0 && want == 429 {
			t.Errorf("call %d: %d lines in the log", i+1, logged)
		}
	}
}

func TestABodyOverTheBoundIsRefusedOfABearerToo(t *testing.T) {
	s := open(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/clusters", strings.NewReader(strings.Repeat("x", 300<<10)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token("ASIAJANE", audience))
	answer, err := s.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %s", answer.Status)
	}
}
