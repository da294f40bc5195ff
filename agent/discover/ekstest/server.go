// Package ekstest is an EKS API for tests that answers as it is told, and remembers what it
// was asked.
package ekstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// IPv4 is the network of a cluster as EKS describes it.
const IPv4 = `{"serviceIpv4Cidr":"172.20.0.0/16","ipFamily":"ipv4"}`

// Answer is one answer.
type Answer struct {
	Status int
	Error  string // its type
	Body   string
	After  <-chan struct{} // not before it is closed; nil: at once
}

// Cluster is the description of the cluster demo, whose authority is in PEM.
func Cluster(status, endpoint string, ca []byte, network string) Answer {
	return Answer{Status: http.StatusOK, Body: fmt.Sprintf(
		`{"cluster":{"name":"demo","status":%q,"endpoint":%q,"certificateAuthority":{"data":%q},"kubernetesNetworkConfig":%s}}`,
		status, endpoint, base64.StdEncoding.EncodeToString(ca), network)}
}

// Server is a running API.
type Server struct {
	URL string
	CA  []byte // PEM; its own certificate

	mu      sync.Mutex
	answers []Answer
	calls   []*http.Request
}

// Start starts an API that ends with the test. It gives the answers in turn, and the last
// one for ever.
func Start(t testing.TB, answers ...Answer) *Server {
	t.Helper()
	s := &Server{answers: answers}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Calls returns every request so far.
func (s *Server) Calls() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls = append(s.calls, r)
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	if answer.After != nil {
		<-answer.After
	}
	if answer.Error != "" {
		w.Header().Set("X-Amzn-Errortype", answer.Error)
	}
	if answer.Status >= 300 && answer.Status < 400 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(answer.Status)
	_, _ = io.WriteString(w, answer.Body)
}
