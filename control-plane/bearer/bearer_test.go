package bearer

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func config() aws.Config {
	return aws.Config{Region: "us-west-2", Credentials: credentials.NewStaticCredentialsProvider("ASIAJANE", "hush", "session")}
}

func TestATokenIsUsedAgainAndMadeAnewBeforeItEnds(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	tokens := NewTokens(config(), "111122223333", func() time.Time { return now })
	get := func() string {
		token, err := tokens.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ststoken.Parse(token, ststoken.Host("us-west-2"), now.Add(time.Minute-time.Second)); err != nil {
			t.Errorf("a token that does not last another minute: %v", err)
		}
		return token
	}
	first := get()
	now = now.Add(13 * time.Minute)
	if get() != first {
		t.Error("after 13 minutes it was made anew")
	}
	now = now.Add(time.Minute)
	if get() == first {
		t.Error("after 14 minutes it was used again")
	}
}

func TestTheAccountIsTheCredentialsOwnWhereTheyTellIt(t *testing.T) {
	config := config()
	config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "A", SecretAccessKey: "s", AccountID: "444455556666"}, nil
	})
	if account, err := Account(t.Context(), config); err != nil || account != "444455556666" {
		t.Errorf("got %q, %v", account, err)
	}
}

// through sends a signed request through a proxy and returns what the service and the
// caller got.
func through(t *testing.T, change func(*http.Request), answer http.HandlerFunc) (received *http.Request, answered *http.Response) {
	t.Helper()
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received = r
		answer(w, r)
	}))
	t.Cleanup(service.Close)
	endpoint, err := ParseEndpoint(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := config()
	proxy := httptest.NewServer(Proxy{
		Client:      Client{Endpoint: endpoint, Tokens: NewTokens(config, "111122223333", nil), Transport: service.Client().Transport},
		Credentials: config.Credentials, Region: "us-west-2", Log: zaptest.NewLogger(t),
	}.Handler())
	t.Cleanup(proxy.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxy.URL+"/clusters/a/access-entries/"+url.PathEscape("arn:aws:iam::1:role/x")+"?maxResults=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, emptySHA256, "eks", "us-west-2", time.Now()); err != nil {
		t.Fatal(err)
	}
	change(r)
	answered, err = proxy.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answered.Body.Close() })
	return received, answered
}

func TestTheServiceSeesTheRequestWithATokenAndNothingOfTheSignature(t *testing.T) {
	received, answered := through(t, func(r *http.Request) {
		r.Header.Set("Proxy-Authorization", "Basic x")
		r.Header.Set("Te", "gzip")
		r.Header.Set("Connection", "X-Hop")
		r.Header.Set("X-Hop", "1")
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
	}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-Requestid", "7")
		_, _ = io.WriteString(w, `{}`)
	})
	if received == nil || answered.StatusCode != http.StatusOK || answered.Header.Get("X-Amzn-Requestid") != "7" {
		t.Fatalf("answered %+v", answered)
	}
	if want := "/clusters/a/access-entries/arn:aws:iam::1:role%2Fx"; received.URL.EscapedPath() != want || received.URL.RawQuery != "maxResults=1" {
		t.Errorf("got %s, want %s", received.URL, want)
	}
	if !strings.HasPrefix(received.Header.Get("Authorization"), "Bearer "+ststoken.Prefix) {
		t.Errorf("Authorization is %.20q", received.Header.Get("Authorization"))
	}
	for _, name := range []string{"X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256", "Proxy-Authorization", "Te", "Connection", "X-Hop", "X-Forwarded-For"} {
		if value := received.Header.Get(name); value != "" {
			t.Errorf("%s: %s reached the service", name, value)
		}
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	_, answered := through(t, func(*http.Request) {}, func(w http.ResponseWriter, _ *http.Request) {
		for range maxResponse>>20 + 4 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	})
	if body, err := io.ReadAll(answered.Body); err == nil || len(body) > maxResponse {
		t.Errorf("%d bytes came through, %v", len(body), err)
	}
}

func TestAnUpgradeIsNotPassedOn(t *testing.T) {
	received, answered := through(t, func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	}, func(http.ResponseWriter, *http.Request) {})
	if received != nil || answered.StatusCode != http.StatusNotFound {
		t.Errorf("got %s", answered.Status)
	}
}

func TestATokenFollowsNoRedirect(t *testing.T) {
	followed := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		_, answered := through(t, func(*http.Request) {}, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, status)
		})
		if answered.StatusCode != status || followed {
			t.Errorf("%d: answered %s, followed %t", status, answered.Status, followed)
		}
	}
}
