package trial

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Compare measures, in turn, how long CreateCluster takes until the cluster is ACTIVE and
// how long script (scripts/bench-bare-control-plane) takes to start the same programs with
// nothing around them, each runs times. Both are in seconds. A service must be serving the
// site; each run has a line in progress.
func (s *Site) Compare(ctx context.Context, script string, runs int, progress io.Writer) (created, bare []float64, err error) {
	create := func(i int) error {
		took, err := s.timeCreate(ctx, fmt.Sprintf("bench-%d", i))
		created = append(created, took.Seconds())
		_, _ = fmt.Fprintf(progress, "run %d: CreateCluster to ACTIVE %.2f s\n", i+1, took.Seconds())
		return err
	}
	reference := func(i int) error {
		took, err := s.timeBare(ctx, script)
		bare = append(bare, took)
		_, _ = fmt.Fprintf(progress, "run %d: bare start %.2f s\n", i+1, took)
		return err
	}
	for i := range runs {
		// Who goes first changes, so that neither always finds the warmer machine.
		first, second := create, reference
		if i%2 == 1 {
			first, second = reference, create
		}
		if err := first(i); err != nil {
			return nil, nil, err
		}
		if err := second(i); err != nil {
			return nil, nil, err
		}
	}
	return created, bare, nil
}

func (s *Site) timeCreate(ctx context.Context, name string) (time.Duration, error) {
	began := time.Now()
	if err := s.Create(ctx, name); err != nil {
		return 0, err
	}
	if _, err := s.AwaitActive(ctx, name); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, s.Delete(ctx, name)
}

func (s *Site) timeBare(ctx context.Context, script string) (float64, error) {
	cmd := exec.CommandContext(ctx, script, s.Binary, s.Components, filepath.Join(s.Dir, "bare"), loopback().String())
	cmd.Env = s.Command(ctx).Env
	// The script ends its processes when it is told to end.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var problem strings.Builder
	cmd.Stderr = &problem
	output, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("run %s: %w\n%s", script, err, problem.String())
	}
	return strconv.ParseFloat(strings.TrimSpace(string(output)), 64)
}
