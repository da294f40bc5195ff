package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// site is a handler with issuers that come and go, and a clock of its own.
type site struct {
	http.Handler
	issuers []Issuer
	fails   error
	listed  int
	now     time.Time
}

func newSite(t *testing.T) (*site, string) {
	t.Helper()
	url, err := NewURL("eks.example.com:8443")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^https://eks\.example\.com:8443/id/[0-9a-f]{32}$`).MatchString(url) {
		t.Fatalf("issuer %s", url)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{issuers: []Issuer{{url, []*ecdsa.PublicKey{&private.PublicKey}}}, now: time.Unix(1e9, 0)}
	s.Handler = New(func(context.Context) ([]Issuer, error) {
		s.listed++
		return s.issuers, s.fails
	}, zap.NewNop(), func() time.Time { return s.now })
	return s, url[len("https://eks.example.com:8443"):]
}

func (s *site) ask(method, path string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
	return answer
}

func TestAnIssuerPublishesItselfAndItsKeys(t *testing.T) {
	s, path := newSite(t)
	answer := s.ask(http.MethodGet, path+"/.well-known/openid-configuration")
	var found map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &found); err != nil || found["issuer"] != s.issuers[0].URL || found["jwks_uri"] != s.issuers[0].URL+"/keys" {
		t.Errorf("discovery %v, %v", found, err)
	}
	if answer.Header().Get("Cache-Control") == "" || answer.Header().Get("Content-Type") != "application/json" {
		t.Errorf("header %v", answer.Header())
	}
	var keys struct{ Keys []map[string]string }
	if err := json.Unmarshal(s.ask(http.MethodGet, path+"/keys").Body.Bytes(), &keys); err != nil || len(keys.Keys) != 1 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	if k := keys.Keys[0]; k["kty"] != "EC" || k["crv"] != "P-256" || k["alg"] != "ES256" || len(k["x"]) != 43 || len(k["y"]) != 43 || len(k["kid"]) != 43 || k["d"] != "" {
		t.Errorf("key %v", k)
	}
}

func TestNothingElseIsAnswered(t *testing.T) {
	s, path := newSite(t)
	for request, want := range map[[2]string]int{
		{http.MethodHead, path + "/keys"}:               http.StatusOK,
		{http.MethodPost, path + "/keys"}:               http.StatusMethodNotAllowed,
		{http.MethodGet, path + "0/keys"}:               http.StatusNotFound,
		{http.MethodGet, path}:                          http.StatusNotFound,
		{http.MethodGet, "/id/"}:                        http.StatusNotFound,
		{http.MethodGet, path + "/keys/ca.key"}:         http.StatusNotFound,
		{http.MethodGet, "/id/%2e%2e%2fblue/keys"}:      http.StatusNotFound,
		{http.MethodGet, path + "/.well-known/another"}: http.StatusNotFound,
	} {
		if answer := s.ask(request[0], request[1]); answer.Code != want {
			t.Errorf("%v: %d, want %d", request, answer.Code, want)
		}
	}
}

func TestRequestsAreAnsweredFromMemory(t *testing.T) {
	s, path := newSite(t)
	for range 100 {
		s.ask(http.MethodGet, path+"/keys")
		s.ask(http.MethodGet, "/id/unknown/keys")
	}
	if s.listed != 1 {
		t.Errorf("the issuers were listed %d times, want once", s.listed)
	}
	s.now = s.now.Add(missAfter)
	newcomer := s.issuers[0]
	newcomer.URL = "https://eks.example.com/id/0123456789abcdef0123456789abcdef"
	s.issuers = append(s.issuers, newcomer)
	if answer := s.ask(http.MethodGet, "/id/0123456789abcdef0123456789abcdef/keys"); answer.Code != http.StatusOK {
		t.Errorf("a new cluster's issuer: %d", answer.Code)
	}
	s.now = s.now.Add(missAfter)
	s.issuers = nil
	s.ask(http.MethodGet, "/id/unknown/keys")
	if answer := s.ask(http.MethodGet, path+"/keys"); answer.Code != http.StatusNotFound {
		t.Errorf("after the cluster is gone: %d", answer.Code)
	}
}

func TestFailuresDoNotGrowWithTheRequests(t *testing.T) {
	s, path := newSite(t)
	s.ask(http.MethodGet, path+"/keys")
	s.fails = errors.New("etcd is down")
	s.now = s.now.Add(freshFor - 1)
	for range 100 {
		s.ask(http.MethodGet, "/id/unknown/keys")
		if answer := s.ask(http.MethodGet, path+"/keys"); answer.Code != http.StatusOK {
			t.Fatalf("a known issuer while the registry is down: %d", answer.Code)
		}
	}
	if s.listed != 2 {
		t.Errorf("the issuers were listed %d times, want twice", s.listed)
	}
}

func TestAKnownIssuerIsAnsweredWithoutAWaitAndAListingOutlivesWhoBeganIt(t *testing.T) {
	s, path := newSite(t)
	s.ask(http.MethodGet, path+"/keys")
	began, ended := make(chan context.Context), make(chan struct{})
	slow := &publisher{
		byID: map[string]documents{"known": {}}, log: zap.NewNop(), now: func() time.Time { return s.now },
		list: func(ctx context.Context) ([]Issuer, error) {
			began <- ctx
			<-ended
			return s.issuers, ctx.Err()
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, ok := slow.find(ctx, "known"); !ok {
		t.Error("the known issuer was not found")
	}
	listing := <-began
	cancel()
	if _, ok := slow.find(ctx, "unknown"); ok || listing.Err() != nil {
		t.Errorf("found %t, the listing ended: %v", ok, listing.Err())
	}
	if _, bounded := listing.Deadline(); !bounded {
		t.Error("the listing has no deadline")
	}
	id := strings.TrimPrefix(path, "/id/")
	found := make(chan bool)
	go func() {
		_, ok := slow.find(t.Context(), id)
		found <- ok
	}()
	close(ended)
	if !<-found {
		t.Error("who joined the listing did not get its result")
	}
}
