package eks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
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
