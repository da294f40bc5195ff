package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods/exchange"
)

// What an expression can name, as on Amazon's image.
const (
	defaultENIs = "default_enis" // network interfaces on the instance type's default card
	ipsPerENI   = "ips_per_eni"  // IPv4 addresses of each
	maxPods     = "max_pods"     // what the node takes without an expression
)

// Bounds, each a hundred times what the longest sensible expression needs, as is its length.
const (
	maxDepth = 50 // of nesting
	maxCost  = 10_000
	maxTime  = time.Second
)

// check compiles an expression. Its error has one line.
func check(expression string) error {
	_, _, err := compile(expression)
	return err
}

// evaluate returns the pods by an expression, at least one. Its error has one line.
func evaluate(expression string, v exchange.Variables) (int, error) {
	env, ast, err := compile(expression)
	if err != nil {
		return 0, err
	}
	values := map[string]any{maxPods: v.MaxPods}
	given := fmt.Sprintf("%s %d", maxPods, v.MaxPods)
	if v.DefaultENIs > 0 {
		values[defaultENIs], values[ipsPerENI] = v.DefaultENIs, v.IPsPerENI
		given = fmt.Sprintf("%s %d, %s %d, %s", defaultENIs, v.DefaultENIs, ipsPerENI, v.IPsPerENI, given)
	} else if name := named(ast, defaultENIs, ipsPerENI); name != "" {
		return 0, fmt.Errorf("it needs %s, which this image does not know of the instance type; set spec.kubelet.config.maxPods instead", name)
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return 0, errors.New(firstLine(err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	result, _, err := program.ContextEval(ctx, values)
	if err != nil {
		return 0, fmt.Errorf("%s (with %s)", firstLine(err), given)
	}
	pods, ok := result.Value().(int64)
	if !ok || pods < 1 || pods > math.MaxInt32 { // kubelet's maxPods is an int32
		return 0, fmt.Errorf("it gives %v, want 1 to %d (with %s)", result.Value(), math.MaxInt32, given)
	}
	return int(pods), nil
}

func compile(expression string) (*cel.Env, *cel.Ast, error) {
	env, err := cel.NewEnv(
		cel.Variable(defaultENIs, cel.IntType), cel.Variable(ipsPerENI, cel.IntType), cel.Variable(maxPods, cel.IntType),
		cel.ParserRecursionLimit(maxDepth),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare CEL: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, nil, describe(issues)
	}
	if !ast.OutputType().IsExactType(cel.IntType) {
		return nil, nil, fmt.Errorf("it gives a value of type %s, want an int, which int(...) makes of a number", ast.OutputType())
	}
	return env, ast, nil
}

// describe tells the first issue only: the others mostly follow from it.
func describe(issues *cel.Issues) error {
	first := issues.Errors()[0]
	message, _, _ := strings.Cut(first.Message, "\n")
	message, _, _ = strings.Cut(message, " expecting {") // every token of the language
	message = strings.TrimSuffix(message, " (in container '')")
	if strings.HasPrefix(message, "undeclared reference") {
		message += fmt.Sprintf("; there are %s, %s and %s", defaultENIs, ipsPerENI, maxPods)
	}
	line, column := first.Location.Line(), first.Location.Column()+1
	if line < 1 || column < 1 { // of the whole
		return errors.New(message)
	}
	return fmt.Errorf("line %d, column %d: %s", line, column, message)
}

// named returns which of names an expression has, if any.
func named(ast *cel.Ast, names ...string) string {
	used := map[string]bool{}
	for _, reference := range ast.NativeRep().ReferenceMap() {
		used[reference.Name] = true
	}
	for _, name := range names {
		if used[name] {
			return name
		}
	}
	return ""
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
