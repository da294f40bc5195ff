// Command bench measures what Ovenbird claims: a table on standard output, and the same
// figures in .ovenbird/bench.json. It needs root, the components and the baked image.
//
//	go run ./test/bench [bake] [upload] [create] [control-plane] [init] [boot]     default: all, and only then the file
//
// PEER=/path/to/nodeadm holds the agent's init against that program, stripped as ours is.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

// Runs of each figure. A boot under software emulation takes a minute or more.
const (
	createRuns = 5
	bootRuns   = 5
	bakeRuns   = 3
	initRuns   = 21
)

// measures are the groups of figures, in the order in which they are taken.
var measures = []struct {
	group string
	take  func(context.Context) ([]Entry, error)
}{
	{"bake", measureBake},
	{"upload", measureUpload},
	{"create", measureCreate},
	{"control-plane", measureControlPlane},
	{"init", measureInit},
	{"boot", measureBoot},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) == 3 && parts[os.Args[1]] != nil {
		err = parts[os.Args[1]](ctx, os.Args[2])
	} else {
		err = run(ctx, os.Args[1:])
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// run takes the groups, all of them when none is named. Only then is the file written.
func run(ctx context.Context, groups []string) error {
	var entries []Entry
	for _, m := range measures {
		if len(groups) > 0 && !slices.Contains(groups, m.group) {
			continue
		}
		measured, err := m.take(ctx)
		if err != nil {
			return err
		}
		entries = append(entries, measured...)
	}
	if len(groups) > 0 {
		return table(os.Stdout, entries)
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
