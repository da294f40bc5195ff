package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"go.uber.org/zap"
	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// listed are clusters.
type listed []registry.Cluster

func (l listed) List(context.Context) ([]registry.Cluster, error) { return l, nil }

func TestADamagedKeyIsMissingFromTheIssuersAlone(t *testing.T) {
	stateDir, now := t.TempDir(), time.Now()
	for _, name := range []string{"blue", "green"} {
		if _, err := pki.Ensure(cluster.KeyDir(stateDir, name), pki.Spec{SigningKeys: []string{cluster.ServiceAccountKey}}, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cluster.KeyDir(stateDir, "blue"), cluster.ServiceAccountKey+".pub"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := issuers(t.Context(), listed{{Name: "blue", Issuer: "https://x/id/1"}, {Name: "green", Issuer: "https://x/id/2"}, {Name: "red", Issuer: "https://x/id/3"}}, stateDir, zap.NewNop())
	if err != nil || len(found) != 1 || found[0].URL != "https://x/id/2" {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestIssuersAreAskedForNoMoreOftenThanTheLimit(t *testing.T) {
	handler := limited(iam.NewLimiter(0, 2, nil), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i, want := range []int{200, 200, 429} {
		answer := httptest.NewRecorder()
		if handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/id/x/keys", nil)); answer.Code != want {
			t.Errorf("request %d: %d, want %d", i+1, answer.Code, want)
		}
	}
}

// checkIssuer plays a relying party: it knows the issuer, and nothing else, from the API.
func (r *rig) checkIssuer(admin *kubernetes.Clientset, described *types.Cluster) {
	r.Helper()
	issuer := *described.Identity.Oidc.Issuer
	const audience = "sts.amazonaws.com"
	requested, err := admin.CoreV1().ServiceAccounts("default").CreateToken(r.ctx, "default", &authentication.TokenRequest{
		Spec: authentication.TokenRequestSpec{Audiences: []string{audience}},
	}, meta.CreateOptions{})
	r.must(err)

	var found struct {
		Issuer  string `json:"issuer"`
		KeysURL string `json:"jwks_uri"`
	}
	r.get(issuer+"/.well-known/openid-configuration", &found)
	if found.Issuer != issuer {
		r.Errorf("discovery at %s is of issuer %s", issuer, found.Issuer)
	}
	var set struct{ Keys []jsonKey }
	r.get(found.KeysURL, &set)
	claims := r.verified(requested.Status.Token, set.Keys)
	if claims.Issuer != issuer || claims.Subject != "system:serviceaccount:default:default" || len(claims.Audience) != 1 || claims.Audience[0] != audience {
		r.Errorf("the token claims %+v", claims)
	}

	// In the cluster itself, the API server tells of the same issuer and has the same keys.
	var inside struct {
		Issuer string `json:"issuer"`
	}
	r.ask(admin, "/.well-known/openid-configuration", &inside)
	var insideSet struct{ Keys []jsonKey }
	r.ask(admin, "/openid/v1/jwks", &insideSet)
	if inside.Issuer != issuer || len(insideSet.Keys) != 1 || insideSet.Keys[0] != set.Keys[0] {
		r.Errorf("the API server says %+v and %+v, the service %+v", inside, insideSet, set)
	}
	r.checkFormerIssuer(admin, described)
}

// checkFormerIssuer shows a token as it was signed when the endpoint was the issuer.
func (r *rig) checkFormerIssuer(admin *kubernetes.Clientset, described *types.Cluster) {
	r.Helper()
	account, err := admin.CoreV1().ServiceAccounts("default").Get(r.ctx, "default", meta.GetOptions{})
	r.must(err)
	keys := cluster.KeyDir(r.StateDir(), *described.Name)
	data, err := os.ReadFile(filepath.Join(keys, cluster.ServiceAccountKey+".key"))
	r.must(err)
	block, _ := pem.Decode(data)
	private, err := x509.ParseECPrivateKey(block.Bytes)
	r.must(err)
	now := time.Now()
	payload, err := json.Marshal(map[string]any{
		"iss": *described.Endpoint, "aud": []string{*described.Endpoint}, "sub": "system:serviceaccount:default:default",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "default", "serviceaccount": map[string]any{"name": "default", "uid": account.UID}},
	})
	r.must(err)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"ES256"}`)) + "." + encode(payload)
	hash := sha256.Sum256([]byte(signed))
	x, y, err := ecdsa.Sign(rand.Reader, private, hash[:])
	r.must(err)
	token := signed + "." + encode(append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...))
	review, err := admin.AuthenticationV1().TokenReviews().Create(r.ctx, &authentication.TokenReview{
		Spec: authentication.TokenReviewSpec{Token: token},
	}, meta.CreateOptions{})
	r.must(err)
	if !review.Status.Authenticated {
		r.Errorf("a token of the former issuer is refused: %s", review.Status.Error)
	}
}

// get reads JSON from the service without credentials.
func (r *rig) get(url string, into any) {
	r.Helper()
	roots, err := pki.ReadRoots(filepath.Join(r.Dir, "ca.crt"))
	r.must(err)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}
	defer client.CloseIdleConnections()
	answer, err := client.Get(url)
	r.must(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	r.must(err)
	if answer.StatusCode != http.StatusOK {
		r.Fatalf("%s: %s", url, answer.Status)
	}
	r.must(json.Unmarshal(body, into))
}

// ask reads JSON from a cluster's API server.
func (r *rig) ask(client *kubernetes.Clientset, path string, into any) {
	r.Helper()
	body, err := client.Discovery().RESTClient().Get().AbsPath(path).DoRaw(r.ctx)
	r.must(err)
	r.must(json.Unmarshal(body, into))
}

type jsonKey struct{ Kid, Kty, Crv, Alg, X, Y string }

type tokenClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience []string `json:"aud"`
}

// verified checks an ES256 token by RFC 7515 and RFC 7518.
func (r *rig) verified(token string, keys []jsonKey) tokenClaims {
	r.Helper()
	parts := strings.Split(token, ".")
	decode := func(text string) []byte {
		data, err := base64.RawURLEncoding.DecodeString(text)
		r.must(err)
		return data
	}
	var header struct{ Alg, Kid string }
	r.must(json.Unmarshal(decode(parts[0]), &header))
	signature, hash := decode(parts[2]), sha256.Sum256([]byte(parts[0]+"."+parts[1]))
	for _, key := range keys {
		if key.Kid != header.Kid {
			continue
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, decode(key.X)...), decode(key.Y)...))
		r.must(err)
		if header.Alg != "ES256" || !ecdsa.Verify(public, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			r.Fatalf("the token, signed with %s, does not verify", header.Alg)
		}
		var claims tokenClaims
		r.must(json.Unmarshal(decode(parts[1]), &claims))
		return claims
	}
	r.Fatalf("key %s is not published", header.Kid)
	return tokenClaims{}
}
