// Package exchange is what package maxpods and its evaluator say to each other: one question in
// JSON on standard input, one answer in JSON on standard output. The evaluator's language must
// not come into the agent with it, so it imports nothing.
package exchange

// Bounds in bytes. Within JSON a byte of an expression takes six at most.
const (
	MaxExpression = 1000
	MaxQuestion   = 6*MaxExpression + 1000
	MaxAnswer     = 64 << 10
)

// Question is an expression to compile, and with variables to evaluate too.
type Question struct {
	Expression string     `json:"expression"`
	Variables  *Variables `json:"variables,omitempty"`
}

// Variables are what an expression computes with. A type whose network interfaces nobody
// knows has 0 of them.
type Variables struct{ DefaultENIs, IPsPerENI, MaxPods int }

// Answer says what is wrong with the expression, in one line, or else how many pods it gives.
type Answer struct {
	Pods  int    `json:"pods,omitempty"`
	Error string `json:"error,omitempty"`
}
