// Package awsquerytest is a service of the Query protocol for tests. It refuses what is not
// signed for it, answers as it is told, and remembers what it was asked.
package awsquerytest

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Server is a running service.
type Server struct {
	URL    string
	Client *http.Client // trusts it
	// Certificate is its own.
	Certificate *x509.Certificate

	mu       sync.Mutex
	failures []Failure
	calls    []string
}

// Failure is a refusal.
type Failure struct {
	Status        int
	Code, Message string
}

// Start starts a service that ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	s := &Server{}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	s.URL, s.Client, s.Certificate = server.URL, server.Client(), server.Certificate()
	return s
}

// Fail answers the next calls with the given failures, one each.
func (s *Server) Fail(failures ...Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, failures...)
}

// Calls returns the decoded parameters of every call so far, as "Action=... Name=value",
// sorted by name.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.Path != "/" {
		refuse(w, Failure{http.StatusBadRequest, "MalformedInput", fmt.Sprint(r.Method, r.URL, err)})
		return
	}
	service := map[string]string{"2010-05-15": "cloudformation", "2011-01-01": "autoscaling"}[r.PostForm.Get("Version")]
	authorization := r.Header.Get("Authorization")
	if !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=") || !strings.Contains(authorization, "/us-west-2/"+service+"/aws4_request") ||
		r.Header.Get("X-Amz-Date") == "" || r.Header.Get("X-Amz-Security-Token") == "" {
		refuse(w, Failure{http.StatusForbidden, "IncompleteSignature", authorization})
		return
	}
	s.calls = append(s.calls, text(r.PostForm))
	if len(s.failures) > 0 {
		failure := s.failures[0]
		s.failures = s.failures[1:]
		refuse(w, failure)
	}
}

func text(form url.Values) string {
	var pairs []string
	for name, values := range form {
		pairs = append(pairs, name+"="+strings.Join(values, ","))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " ")
}

func refuse(w http.ResponseWriter, failure Failure) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(failure.Status)
	fmt.Fprintf(w, "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>%s</Code>\n    <Message>%s</Message>\n  </Error>\n  <RequestId>1</RequestId>\n</ErrorResponse>\n", failure.Code, failure.Message)
}
