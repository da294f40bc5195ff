package eks_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/smithy-go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/bearer"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	account  = "111122223333"
	audience = "ovenbird-api/us-west-2/111122223333"
	jane     = "arn:aws:sts::111122223333:assumed-role/operators/jane"
	node     = "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-0abc"

	operatorsMay = `{"statements":[{"principals":["arn:aws:iam::111122223333:role/operators"],"actions":["eks:*"],"resources":["blue*"]},
		{"principals":["arn:aws:iam::111122223333:role/operators"],"actions":["eks:ListClusters"],"resources":["*"]}]}`
)

// holders are AWS's own records: whose an access key is. The service knows none of them.
type holders struct{}

func (holders) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	arn, ok := map[string]string{"ASIAJANE": jane, "ASIANODE": node}[id]
	if !ok {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "hush", SessionToken: "session", ARN: arn}, nil
}

// site is the API behind TLS, an STS that verifies, and the record of calls.
type site struct {
	*testing.T
	url      string // of the API
	http     *http.Client
	sts      *httptest.Server
	registry *registry.Registry
	now      func() time.Time
	log      *zap.Logger
	logs     *observer.ObservedLogs

	mu     sync.Mutex
	answer http.HandlerFunc // of STS
	events []audit.Event
}

func (s *site) Record(e audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// last returns the one event since the last look.
func (s *site) last() audit.Event {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) != 1 {
		s.Fatalf("%d audit events, want one: %+v", len(s.events), s.events)
	}
	e := s.events[0]
	s.events = nil
	return e
}

func (s *site) become(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func honest(w http.ResponseWriter, r *http.Request) {
	caller, err := sigv4.Verifier{Keys: holders{}, Region: "us-west-2", Service: "sts"}.Verify(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	format := `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>%s</Account><Arn>%s</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>`
	if r.Header.Get("Accept") == "application/json" {
		format = `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"%s","Arn":"%s","UserId":"AROAX:y"}}}`
	}
	fmt.Fprintf(w, format, account, caller.ARN)
}

func open(t *testing.T) *site {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	s := &site{T: t, answer: honest, now: time.Now, log: zap.New(core), logs: logs}
	s.sts = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.sts.Close)
	clock := func() time.Time { return s.now() }
	api, r := handler(t, network{}, func(c *iam.Callers) {
		c.Keys = nil
		verifier := ststoken.Verifier{HTTP: s.sts.Client(), Host: s.stsHost(), Now: clock}
		c.Tokens = iam.NewCachedTokens(verifier, iam.NewLimiter(1000, 1000, nil), time.Second, clock)
	}, operatorsMay, s, s.log)
	server := httptest.NewTLSServer(api)
	t.Cleanup(server.Close)
	s.url, s.http, s.registry = server.URL, server.Client(), r
	return s
}

func (s *site) stsHost() string { return strings.TrimPrefix(s.sts.URL, "https://") }

// config is the AWS configuration of somebody who holds a key.
func (s *site) config(id, secret string) aws.Config {
	return aws.Config{
		Region: "us-west-2", BaseEndpoint: aws.String(s.sts.URL), HTTPClient: s.sts.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, "session"), Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
}

func (s *site) token(id, of string) string {
	s.Helper()
	signer := ststoken.Signer{Credentials: s.config(id, "hush").Credentials, Region: "us-west-2", Endpoint: s.sts.URL}
	token, _, err := signer.Token(s.Context(), of)
	if err != nil {
		s.Fatal(err)
	}
	return token
}

// get sends a bearer token and returns the answer's status and exception.
func (s *site) get(path, token string) (status int, exception, body string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := s.http.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("X-Amzn-Errortype"), string(said)
}

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
