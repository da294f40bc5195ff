package cloudformation

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// errCancelled is the end of work that something else made useless.
var errCancelled = errors.New("Resource creation cancelled") //nolint:staticcheck // CloudFormation's words

// walk does work for each node after that for the nodes it depends on, side by side where it
// can. After the first error it cancels what runs and starts nothing else, but for what
// must: work that was begun before. It answers the names of the nodes that failed by
// themselves, in order.
func walk(ctx context.Context, nodes map[string][]string, must func(string) bool, do func(ctx context.Context, node string) error) []string {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var failed []string
	follow(nodes, func(node string) bool { return ctx.Err() == nil || must(node) }, func(node string) bool {
		err := do(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if err != nil && ctx.Err() == nil {
			failed = append(failed, node)
			cancel(errCancelled)
		}
		return err == nil
	})
	slices.Sort(failed)
	return failed
}

// follow does work for each node after that for the nodes that it depends on, where may
// allows. What depends on work that failed is not done.
func follow(nodes map[string][]string, may func(string) bool, do func(node string) bool) {
	type result struct {
		node string
		ok   bool
	}
	results := make(chan result)
	left, finished, running := maps.Clone(nodes), map[string]bool{}, 0
	start := func() {
		for _, node := range slices.Sorted(maps.Keys(left)) {
			ready := !slices.ContainsFunc(left[node], func(other string) bool { _, in := nodes[other]; return in && !finished[other] })
			if !ready || !may(node) {
				continue
			}
			delete(left, node)
			running++
			go func() { results <- result{node, do(node)} }()
		}
	}
	for start(); running > 0; start() {
		r := <-results
		running--
		if r.ok {
			finished[r.node] = true
		}
	}
}
