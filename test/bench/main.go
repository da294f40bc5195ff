// Command bench measures what Ovenbird claims: a table on standard output, and the same
// figures in .ovenbird/bench.json. It needs root, the components and the baked image.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

// Runs of each figure. A boot under software emulation takes a minute or more.
const (
	createRuns = 5
	bootRuns   = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var entries []Entry
	for _, measure := range []func(context.Context) ([]Entry, error){measureCreate, measureBoot} {
		measured, err := measure(ctx)
		if err != nil {
			return err
		}
		entries = append(entries, measured...)
	}
	return report(os.Stdout, ".ovenbird/bench.json", entries)
}

// measureCreate holds CreateCluster against a bare start of the same programs by a script.
func measureCreate(ctx context.Context) (entries []Entry, err error) {
	dir, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := filepath.Abs("bin/ovenbird")
	if err != nil {
		return nil, err
	}
	components, err := filepath.Abs("dist/components")
	if err != nil {
		return nil, err
	}
	site, err := trial.NewSite(binary, components, dir)
	if err != nil {
		return nil, err
	}
	defer site.Close()
	service, err := site.Serve(ctx, io.Discard)
	if err != nil {
		return nil, err
	}
	defer func() {
		stopping := site.Command(context.WithoutCancel(ctx), "stop", "--state-dir", site.StateDir())
		if output, failed := stopping.CombinedOutput(); failed != nil && err == nil {
			err = fmt.Errorf("stop the clusters: %w\n%s", failed, output)
		}
		_ = service.Signal(syscall.SIGTERM)
	}()
	created, bare, err := site.Compare(ctx, "scripts/bench-bare-control-plane", createRuns, os.Stderr)
	if err != nil {
		return nil, err
	}
	return []Entry{compared("CreateCluster to ACTIVE", "s", "bare start by a script", created, bare)}, nil
}

// measureBoot times instances on a lab of its own, from RunInstances to a Ready node.
func measureBoot(ctx context.Context) (entries []Entry, err error) {
	state, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(state)
	script := func(ctx context.Context, name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "OVENBIRD_STATE="+state, "OVENBIRD_LAB="+fmt.Sprintf("ob-bench-%d", os.Getpid()))
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	defer func() {
		if failed := script(context.WithoutCancel(ctx), "scripts/down"); err == nil {
			err = failed
		}
	}()
	if err := script(ctx, "scripts/up"); err != nil {
		return nil, err
	}
	var seconds []float64
	for run := range bootRuns {
		// One at a time: a node that is there already would take its share of the machine.
		if err := script(ctx, "scripts/remove-nodes"); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := script(ctx, "scripts/add-node"); err != nil {
			return nil, err
		}
		seconds = append(seconds, time.Since(began).Seconds())
		fmt.Fprintf(os.Stderr, "run %d: RunInstances to Ready %.1f s\n", run+1, seconds[run])
	}
	return []Entry{{Name: "RunInstances to Ready", Value: median(seconds), Unit: "s", Runs: len(seconds)}}, nil
}
