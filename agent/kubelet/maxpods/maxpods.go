// Package maxpods evaluates spec.kubelet.maxPodsExpression: an expression in the Common
// Expression Language that says how many pods an instance takes. A program that is embedded
// here does, in a process of its own, which nothing starts without an expression. Neither
// checking nor evaluating one takes more than bounded time and memory, whoever wrote it.
package maxpods

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods/exchange"
)

// program holds the evaluator, once `make build` has compiled it.
//
//go:embed program
var program embed.FS

// path is the evaluator's in program.
const path = "program/evaluator"

// timeout bounds the evaluator's process. It takes 40 ms, of which an emulated machine under
// load makes a hundred times that.
const timeout = 10 * time.Second

// Variables are what an expression computes with. A type whose network interfaces nobody
// knows has 0 of them.
type Variables = exchange.Variables

// Check compiles an expression. Its error has one line.
func Check(expression string) error {
	_, err := ask(exchange.Question{Expression: expression})
	return err
}

// Evaluate returns the pods by an expression, at least one. Its error has one line.
func Evaluate(expression string, v Variables) (int, error) {
	return ask(exchange.Question{Expression: expression, Variables: &v})
}

func ask(question exchange.Question) (int, error) {
	if length := len(question.Expression); length > exchange.MaxExpression {
		return 0, fmt.Errorf("%d bytes are too long, want %d at most", length, exchange.MaxExpression)
	}
	content, err := program.Open(path)
	if err != nil {
		return 0, errors.New("this program was built without the evaluator of expressions: build it with `make build`")
	}
	defer content.Close()
	file, err := inMemory(content)
	if err != nil {
		return 0, fmt.Errorf("load the evaluator: %w", err)
	}
	defer file.Close()
	said, err := json.Marshal(question)
	if err != nil {
		return 0, err
	}
	heard, err := run(file, said, timeout)
	if err != nil {
		return 0, err
	}
	var answer exchange.Answer
	if err := json.Unmarshal(heard, &answer); err != nil {
		return 0, fmt.Errorf("read the evaluator's answer: %w", err)
	}
	if answer.Error != "" {
		return 0, errors.New(answer.Error)
	}
	return answer.Pods, nil
}
