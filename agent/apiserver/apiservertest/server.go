// Package apiservertest is an API server for tests: TLS, bearer tokens and client
// certificates, certificate requests and Nodes with their watches, in the wire format. It
// answers as kube-apiserver does where the agent can tell, and can be told to fail.
package apiservertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// AmazonHost is a host name as Amazon EKS gives its API servers. The server has it in its
// certificate; a client needs a proxy to get there by it.
const AmazonHost = "0123456789abcdef.gr7.us-west-2.eks.amazonaws.com"

// Host is another name in its certificate.
const Host = "api.demo.internal"

// Server is a running API server.
type Server struct {
	URL string
	CA  []byte // PEM; signs its own certificate and those of clients

	// Token says whose a bearer token is; "" is nobody's. Nil knows no token.
	Token func(token string) string
	// Judge answers a certificate request: "" signs it, "wait" leaves it, anything else
	// is the reason to deny it. Nil signs all.
	Judge func(request *certificatesv1.CertificateSigningRequest) string
	// NoPatches refuses to change Nodes.
	NoPatches bool
	// NotReady answers /readyz with 503.
	NotReady bool

	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	requests map[string]*certificatesv1.CertificateSigningRequest
	nodes    map[string]*corev1.Node
	pods     map[string]*corev1.Pod // by "namespace/name"
	budgets  map[string]string      // which budgets keep which pods, by the same
	events   []corev1.Event
	failures []int
	calls    []string
	ahead    atomic.Int64     // nanoseconds
	serving  *tls.Certificate // nil: to be made
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		changed:  make(chan struct{}),
		requests: map[string]*certificatesv1.CertificateSigningRequest{},
		nodes:    map[string]*corev1.Node{},
		pods:     map[string]*corev1.Pod{},
		budgets:  map[string]string{},
	}
	s.newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(s.ca)
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		certificate, err := s.certificate()
		if err != nil {
			return nil, err
		}
		return &tls.Config{
			Certificates: []tls.Certificate{*certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
			Time: s.Now, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		}, nil
	}}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that hang up are part of the tests
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections() // watches would hold it open
		server.Close()
	})
	s.URL = server.URL
	return s
}

func (s *Server) newAuthority(t testing.TB) {
	t.Helper()
	var err error
	if s.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &s.caKey.PublicKey, s.caKey)
	if err != nil {
		t.Fatal(err)
	}
	if s.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// certificate is the server's own, by its clock.
func (s *Server) certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving != nil {
		return s.serving, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := s.issue(pkix.Name{CommonName: "kube-apiserver"}, &key.PublicKey, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	s.serving = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return s.serving, nil
}

// Shift makes the server's clock be d ahead of the machine's, for the certificates that it
// makes, its own among them, and the dates of its answers.
func (s *Server) Shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead.Store(int64(d))
	s.serving = nil
}

// Now is the server's clock.
func (s *Server) Now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *Server) issue(subject pkix.Name, public any, usage x509.ExtKeyUsage) ([]byte, error) {
	now := s.Now()
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{AmazonHost, Host},
	}, s.ca, public, s.caKey)
}

// SetNode makes node be there as it is.
func (s *Server) SetNode(node *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := node.DeepCopy()
	kept.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"} // a watch says what it sends
	s.nodes[node.Name] = kept
	s.notify()
}

// Fail answers the next requests with the given statuses, one each. Whoever shows no identity, as
// the doctor who looks when a phase fails for long, gets none of them.
func (s *Server) Fail(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, statuses...)
}

// Requests returns the certificate requests that were filed, by name.
func (s *Server) Requests() []*certificatesv1.CertificateSigningRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*certificatesv1.CertificateSigningRequest
	for _, request := range s.requests {
		all = append(all, request.DeepCopy())
	}
	slices.SortFunc(all, func(a, b *certificatesv1.CertificateSigningRequest) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Calls returns "user METHOD path" of every call so far.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// notify wakes the watches. s.mu is held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat))
	user := s.user(r)
	s.mu.Lock()
	s.calls = append(s.calls, strings.TrimSpace(user+" "+r.Method+" "+r.URL.Path))
	status := 0
	if user != "" && len(s.failures) > 0 {
		status, s.failures = s.failures[0], s.failures[1:]
	}
	s.mu.Unlock()
	selected, _ := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	const requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	switch {
	case status != 0:
		fail(w, status, "told to fail")
	case r.URL.Path == "/readyz" && s.NotReady:
		fail(w, http.StatusServiceUnavailable, "told to fail")
	case r.URL.Path == "/readyz" && (user != "" || r.Header.Get("Authorization") == ""): // a wrong token is worse than none
		_, _ = io.WriteString(w, "ok")
	case user == "":
		fail(w, http.StatusUnauthorized, "Unauthorized")
	case r.Method == http.MethodPost && r.URL.Path == requests:
		s.fileRequest(w, r, user)
	case r.Method == http.MethodGet && r.URL.Path == requests && selected != "":
		watchObject(s, w, r, func() *certificatesv1.CertificateSigningRequest { return s.requests[selected] })
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes" && user == "system:node:"+selected:
		watchObject(s, w, r, func() *corev1.Node { return s.nodes[selected] })
	case r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, nodesPath):
		s.patchNode(w, r, user)
	case s.serveDrain(w, r, user):
	default:
		fail(w, http.StatusForbidden, user+" may not do that")
	}
}

func (s *Server) user(r *http.Request) string {
	if len(r.TLS.PeerCertificates) > 0 {
		return r.TLS.PeerCertificates[0].Subject.CommonName
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && s.Token != nil {
		return s.Token(token)
	}
	return ""
}

func (s *Server) fileRequest(w http.ResponseWriter, r *http.Request, user string) {
	var request certificatesv1.CertificateSigningRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&request); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	request.Spec.Username = user
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[request.Name] != nil {
		fail(w, http.StatusConflict, fmt.Sprintf("certificatesigningrequests.certificates.k8s.io %q already exists", request.Name))
		return
	}
	verdict := ""
	if s.Judge != nil {
		verdict = s.Judge(&request)
	}
	switch verdict {
	case "":
		if err := s.sign(&request); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	case "wait":
	default:
		request.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
			Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "Denied", Message: verdict,
		}}
	}
	s.requests[request.Name] = &request
	s.notify()
	respond(w, http.StatusCreated, &request)
}

// sign answers request. s.mu is held.
func (s *Server) sign(request *certificatesv1.CertificateSigningRequest) error {
	block, _ := pem.Decode(request.Spec.Request)
	if block == nil {
		return fmt.Errorf("the request is not PEM")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := parsed.CheckSignature(); err != nil {
		return err
	}
	der, err := s.issue(parsed.Subject, parsed.PublicKey, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return err
	}
	request.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return nil
}

// Sign answers a request that was left waiting.
func (s *Server) Sign(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	request := s.requests[name]
	if request == nil {
		return fmt.Errorf("no request %s", name)
	}
	defer s.notify()
	return s.sign(request)
}

// watchObject streams what get returns, under s.mu, now and at every change.
func watchObject[T any](s *Server, w http.ResponseWriter, r *http.Request, get func() *T) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	encoder, kind := json.NewEncoder(w), "ADDED"
	for {
		s.mu.Lock()
		changed := s.changed
		var event []byte
		if object := get(); object != nil {
			event, _ = json.Marshal(object)
		}
		s.mu.Unlock()
		if event != nil {
			_ = encoder.Encode(metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: event}})
			kind = "MODIFIED"
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func respond(w http.ResponseWriter, status int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object)
}

// fail answers with a Status, as every error of kube-apiserver is one.
func fail(w http.ResponseWriter, status int, message string) {
	reasons := map[int]metav1.StatusReason{
		http.StatusUnauthorized: metav1.StatusReasonUnauthorized, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusConflict: metav1.StatusReasonAlreadyExists, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
		http.StatusNotFound: metav1.StatusReasonNotFound,
	}
	respond(w, status, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(status) /* #nosec G115 */, Message: message, Reason: reasons[status],
	})
}
