// Package imdstest is an instance metadata service for tests: version 2 only, with answers
// by path, and connections that it drops, answers that fail and tokens that end when it is
// told so.
package imdstest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// token is the first one; those after it have a number.
const token = "the-token"

// Server is a running service.
type Server struct {
	URL string

	mu       sync.Mutex
	answers  map[string]string
	calls    []string
	drop     int
	failures []int
	token    string
	expire   int
	issued   int
}

// Start starts a service that ends with the test. Answers go by path below "/latest/".
func Start(t testing.TB, answers map[string]string) *Server {
	t.Helper()
	s := &Server{answers: map[string]string{}, token: token}
	for path, answer := range answers {
		s.answers[path] = answer
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Set changes an answer.
func (s *Server) Set(path, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = answer
}

// Unset takes an answer away.
func (s *Server) Unset(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answers, path)
}

// Revoke makes every token that was given out a bad one.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token += "-renewed"
}

// Drop closes the next n connections without an answer.
func (s *Server) Drop(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop = n
}

// Fail answers the next requests with the given statuses, one each.
func (s *Server) Fail(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, statuses...)
}

// Expire makes each of the next n tokens end before it is used.
func (s *Server) Expire(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire = n
}

// Calls returns "METHOD path" of every call so far.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	if s.drop > 0 {
		s.drop--
		panic(http.ErrAbortHandler)
	}
	if len(s.failures) > 0 {
		status := s.failures[0]
		s.failures = s.failures[1:]
		http.Error(w, "", status)
		return
	}
	const ttl = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	if r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut && r.Header.Get(ttl) != "" {
		w.Header().Set(ttl, r.Header.Get(ttl))
		_, _ = w.Write([]byte(s.token))
		if s.expire > 0 {
			s.expire--
			s.issued++
			s.token = fmt.Sprintf("%s-%d", token, s.issued)
		}
		return
	}
	if r.Header.Get("X-Aws-Ec2-Metadata-Token") != s.token {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	answer, ok := s.answers[strings.TrimPrefix(r.URL.Path, "/latest/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(answer))
}
