package ecr_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/ecr"
)

const image = "111122223333.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.10"

type answer struct {
	status int
	body   string
}

// token is an answer with credentials that are good for 12 hours.
func token() answer {
	return answer{200, fmt.Sprintf(`{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d.123,"proxyEndpoint":"https://111122223333.dkr.ecr.us-west-2.amazonaws.com"}]}`,
		base64.StdEncoding.EncodeToString([]byte("AWS:the-pass:word")), time.Now().Add(12*time.Hour).Unix())}
}

// api is an ECR that gives the answers in turn, and the last one for ever.
type api struct {
	*httptest.Server

	mu      sync.Mutex
	answers []answer
	calls   int
	wrong   []string // what was not as it should be
	waits   []time.Duration
}

func start(t *testing.T, answers ...answer) *api {
	t.Helper()
	a := &api{answers: answers}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	body, _ := io.ReadAll(r.Body)
	signed := r.Header.Get("Authorization")
	for what, right := range map[string]bool{
		"the method":        r.Method == http.MethodPost && r.URL.Path == "/",
		"the target":        r.Header.Get("X-Amz-Target") == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
		"the content type":  r.Header.Get("Content-Type") == "application/x-amz-json-1.1",
		"the body":          string(body) == `{"registryIds":["111122223333"]}`,
		"the scope":         strings.HasPrefix(signed, "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/") && strings.Contains(signed, "/us-west-2/ecr/aws4_request, "),
		"what is signed":    strings.Contains(signed, "x-amz-target") && strings.Contains(signed, "x-amz-security-token"),
		"the session token": r.Header.Get("X-Amz-Security-Token") == "session",
	} {
		if !right {
			a.wrong = append(a.wrong, what)
		}
	}
	answer := a.answers[0]
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

func (a *api) client() ecr.Client {
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	return ecr.Client{
		Endpoint: a.URL, HTTP: awscall.NewClient(authority, nil, nil),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "session"}, nil
		}),
		Random: func() float64 { return 0.5 },
		Wait: func(_ context.Context, d time.Duration) error {
			a.waits = append(a.waits, d)
			return nil
		},
	}
}

func request(image string) io.Reader {
	return strings.NewReader(fmt.Sprintf(`{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":%q}`, image))
}

func TestKubeletGetsCredentialsOfTheImagesRegistry(t *testing.T) {
	a := start(t, token())
	var out bytes.Buffer
	if err := ecr.Provide(t.Context(), a.client(), request(image), &out); err != nil {
		t.Fatal(err)
	}
	var got v1.CredentialProviderResponse
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.APIVersion != "credentialprovider.kubelet.k8s.io/v1" || got.Kind != "CredentialProviderResponse" || got.CacheKeyType != v1.RegistryPluginCacheKeyType {
		t.Errorf("got %s %s, cached by %s", got.APIVersion, got.Kind, got.CacheKeyType)
	}
	want := v1.AuthConfig{Username: "AWS", Password: "the-pass:word"}
	if len(got.Auth) != 1 || got.Auth["111122223333.dkr.ecr.us-west-2.amazonaws.com"] != want {
		t.Errorf("got %v", got.Auth)
	}
	if got.CacheDuration == nil || got.CacheDuration.Duration < 6*time.Hour-time.Minute || got.CacheDuration.Duration > 6*time.Hour {
		t.Errorf("it is kept for %v, want half of 12 hours", got.CacheDuration)
	}
	if a.calls != 1 || len(a.wrong) > 0 {
		t.Errorf("%d calls; wrong are %q", a.calls, a.wrong)
	}
}

func TestABusyECRIsAskedAgain(t *testing.T) {
	a := start(t, answer{400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`}, answer{503, "later"}, answer{400, `{"__type":"com.amazonaws.ecr#ServerException"}`}, token())
	if err := ecr.Provide(t.Context(), a.client(), request(image), io.Discard); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(a.waits) != "[250ms 500ms 1s]" || len(a.wrong) > 0 {
		t.Errorf("waited %v; wrong are %q", a.waits, a.wrong)
	}
}

func TestWhatKeepsECRFromAnsweringIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		calls  int
		says   string
	}{
		"not allowed":                {answer{400, `{"__type":"AccessDeniedException","Message":"User: arn is not authorized"}`}, 1, "400 AccessDeniedException: User: arn is not authorized (allow the instance's role ecr:GetAuthorizationToken;"},
		"an unknown key":             {answer{400, `{"__type":"UnrecognizedClientException","message":"no"}`}, 1, "compare the clock"},
		"throttled for long":         {answer{400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`}, 4, "400 ThrottlingException: Rate exceeded"},
		"a proxy that is in trouble": {answer{502, "<html>"}, 4, "502"},
		"a redirect":                 {answer{307, ""}, 1, "307"},
		"an oversized answer":        {answer{200, strings.Repeat("x", 257<<10)}, 4, "the answer is longer than 262144 bytes"},
		"no JSON":                    {answer{200, "<html>"}, 4, "not what GetAuthorizationToken gives"},
		"no token":                   {answer{200, "{}"}, 4, "without a token"},
		"a token that is none":       {answer{200, `{"authorizationData":[{"authorizationToken":"c2VjcmV0"}]}`}, 4, "not the base64 of a user and a password"},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, test.answer)
			var out bytes.Buffer
			err := ecr.Provide(t.Context(), a.client(), request(image), &out)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "registry 111122223333.dkr.ecr.us-west-2.amazonaws.com: ") {
				t.Errorf("got %v, want %s", err, test.says)
			}
			if a.calls != test.calls || out.Len() > 0 {
				t.Errorf("%d calls, want %d; printed %q", a.calls, test.calls, out.String())
			}
		})
	}
}

func TestTheEndOfTheContextEndsTheWait(t *testing.T) {
	a := start(t, answer{503, "later"})
	client := a.client()
	client.Wait = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	client.Random = func() float64 { // asked right before the wait
		cancel(errors.New("enough"))
		return 1e6
	}
	if err := ecr.Provide(ctx, client, request(image), io.Discard); err == nil || !strings.Contains(err.Error(), "503") || a.calls != 1 {
		t.Errorf("got %v after %d calls", err, a.calls)
	}
}

func TestCredentialsGoToAnHTTPSEndpointOnly(t *testing.T) {
	a := start(t, token())
	client := a.client()
	client.Endpoint = "http://127.0.0.1:1"
	if err := ecr.Provide(t.Context(), client, request(image), io.Discard); err == nil || !strings.Contains(err.Error(), "not of the form https://host") {
		t.Errorf("got %v", err)
	}
	if a.calls != 0 {
		t.Errorf("%d calls", a.calls)
	}
}

func TestARequestThatIsNotKubeletsIsRefused(t *testing.T) {
	for says, in := range map[string]string{
		"is not a CredentialProviderRequest":        "hello",
		`asks with a "" of ""`:                      "{}",
		`of "credentialprovider.kubelet.k8s.io/v2"`: `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v2"}`,
		"in no private registry":                    `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"docker.io/library/nginx"}`,
	} {
		err := ecr.Provide(t.Context(), ecr.Client{}, strings.NewReader(in), io.Discard)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %s", in, err, says)
		}
	}
}
