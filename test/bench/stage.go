package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
)

// stage is the testing.TB of stand-ins outside of a test: what they start ends with it.
type stage struct {
	testing.TB
	ctx  context.Context
	ends []func()
}

func (*stage) Helper()                         {}
func (s *stage) Cleanup(f func())              { s.ends = append(s.ends, f) }
func (s *stage) Context() context.Context      { return s.ctx }
func (*stage) Fatal(args ...any)               { panic(fmt.Sprint(args...)) }
func (*stage) Fatalf(f string, args ...any)    { panic(fmt.Sprintf(f, args...)) }
func (*stage) Skip(args ...any)                { panic(fmt.Sprint(args...)) }
func (*stage) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *stage) close() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
}
