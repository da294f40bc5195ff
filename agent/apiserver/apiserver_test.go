package apiserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
)

const node = "system:node:a"

func start(t *testing.T) (*apiservertest.Server, *apiserver.Client) {
	t.Helper()
	server := apiservertest.Start(t)
	server.Token = func(token string) string {
		if token == "good" {
			return node
		}
		return ""
	}
	return server, client(t, server, apiserver.Config{Token: always("good")})
}

func client(t *testing.T, server *apiservertest.Server, config apiserver.Config) *apiserver.Client {
	t.Helper()
	config.Endpoint, config.CA = server.URL, server.CA
	c, err := apiserver.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(t *testing.T) (csr, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node, Organization: []string{"system:nodes"}}}, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func TestACertificateIsAskedForAndComes(t *testing.T) {
	server, c := start(t)
	csr, _ := request(t)
	certificate, err := c.SignNodeCertificate(t.Context(), "r", csr)
	if err != nil || !strings.HasPrefix(string(certificate), "-----BEGIN CERTIFICATE-----") {
		t.Fatalf("got %q, %v", certificate, err)
	}
	filed := server.Requests()[0].Spec
	if filed.SignerName != "kubernetes.io/kube-apiserver-client-kubelet" || filed.ExpirationSeconds != nil ||
		len(filed.Usages) != 2 || filed.Usages[0] != "digital signature" || filed.Usages[1] != "client auth" {
		t.Errorf("filed %+v", filed)
	}
}

func TestACertificateIsWaitedFor(t *testing.T) {
	server, c := start(t)
	server.Judge = func(r *certificatesv1.CertificateSigningRequest) string {
		go func() { // as soon as the request is stored
			for server.Sign(r.Name) != nil {
			}
		}()
		return "wait"
	}
	csr, _ := request(t)
	if _, err := c.SignNodeCertificate(t.Context(), "r", csr); err != nil {
		t.Error(err)
	}
}

func TestARequestThatIsFiledAlreadyIsWaitedForAgain(t *testing.T) {
	server, c := start(t)
	csr, _ := request(t)
	for range 2 {
		if _, err := c.SignNodeCertificate(t.Context(), "r", csr); err != nil {
			t.Fatal(err)
		}
	}
	if len(server.Requests()) != 1 {
		t.Errorf("%d requests were filed", len(server.Requests()))
	}
}

func TestARefusalIsTold(t *testing.T) {
	server, c := start(t)
	server.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "no such instance" }
	csr, _ := request(t)
	_, err := c.SignNodeCertificate(t.Context(), "r", csr)
	var denied *apiserver.DeniedError
	if !errors.As(err, &denied) || denied.Message != "no such instance" {
		t.Errorf("got %v", err)
	}
}

func TestANameThatAnotherRequestHasIsARefusal(t *testing.T) {
	_, c := start(t)
	csr, _ := request(t)
	if _, err := c.SignNodeCertificate(t.Context(), "r", csr); err != nil {
		t.Fatal(err)
	}
	other, _ := request(t)
	var denied *apiserver.DeniedError
	if _, err := c.SignNodeCertificate(t.Context(), "r", other); !errors.As(err, &denied) {
		t.Errorf("got %v", err)
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	server, c := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	server.Judge = func(*certificatesv1.CertificateSigningRequest) string {
		cancel()
		return "wait"
	}
	csr, _ := request(t)
	if _, err := c.SignNodeCertificate(ctx, "r", csr); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAStrangerIsUnauthorized(t *testing.T) {
	server, _ := start(t)
	csr, _ := request(t)
	_, err := client(t, server, apiserver.Config{Token: always("bad-secret")}).SignNodeCertificate(t.Context(), "r", csr)
	if !errors.Is(err, apiserver.ErrUnauthorized) || strings.Contains(err.Error(), "bad-secret") {
		t.Errorf("got %v", err)
	}
}

func TestReadyIsWhatTheServerSays(t *testing.T) {
	server, c := start(t)
	server.Fail(503)
	if err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "told to fail") {
		t.Errorf("got %v", err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAServerOfAnotherAuthorityIsNotTalkedTo(t *testing.T) {
	server, _ := start(t)
	other := apiservertest.Start(t)
	c, err := apiserver.New(apiserver.Config{Endpoint: server.URL, CA: other.CA, Token: always("good")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("got %v", err)
	}
	if len(server.Calls()) != 0 {
		t.Errorf("it was called: %q", server.Calls())
	}
}

func TestANodeIsWatchedUntilItIsAsWanted(t *testing.T) {
	server, c := start(t)
	csr, key := request(t)
	certificate, err := c.SignNodeCertificate(t.Context(), "r", csr)
	if err != nil {
		t.Fatal(err)
	}
	byCertificate := client(t, server, apiserver.Config{Certificate: certificate, Key: key})
	server.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	got, err := byCertificate.AwaitNode(t.Context(), "a", func(n *apiserver.Node) (bool, error) {
		if n.Spec.PodCIDR == "" {
			server.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"}})
			return false, nil
		}
		return true, nil
	})
	if err != nil || got.Spec.PodCIDR != "10.244.1.0/24" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := byCertificate.AwaitNode(t.Context(), "b", nil); err == nil || !strings.Contains(err.Error(), "watch Node b: ") {
		t.Errorf("another node's: %v", err)
	}
}

func always(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}
