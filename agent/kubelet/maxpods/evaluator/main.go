// Command evaluator answers a question about an expression in the Common Expression Language and ends.
// It is a program of its own for what the language's packages cost every process that has them,
// before its main and in memory, while few nodes have an expression. Package maxpods bounds its
// time and memory; what it computes is bounded here.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods/exchange"
)

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers the one question of r on w.
func serve(r io.Reader, w io.Writer) error {
	var question exchange.Question
	if err := json.NewDecoder(io.LimitReader(r, exchange.MaxQuestion)).Decode(&question); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	return json.NewEncoder(w).Encode(answer(question))
}

func answer(question exchange.Question) exchange.Answer {
	var pods int
	var err error
	if question.Variables == nil {
		err = check(question.Expression)
	} else {
		pods, err = evaluate(question.Expression, *question.Variables)
	}
	if err != nil {
		return exchange.Answer{Error: err.Error()}
	}
	return exchange.Answer{Pods: pods}
}
