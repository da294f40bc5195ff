package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	// pollEvery is how often a wait looks; the SDK's own waiter first looks after 30 s.
	pollEvery = 500 * time.Millisecond
	// speakEvery is the longest that a wait is silent.
	speakEvery = 5 * time.Second
)

type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (f *waitFlags) add(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until the cluster is "+until)
	f.addTimeout(cmd)
}

func (f *waitFlags) addTimeout(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long to wait")
}

func waitActive(ctx context.Context, client *eks.Client, name string, timeout time.Duration, progress *progress) (active *types.Cluster, err error) {
	err = poll(ctx, client, name, timeout, progress, func(c *types.Cluster) (done bool, err error) {
		switch {
		case c == nil:
			return false, fmt.Errorf("cluster %s does not exist", name)
		case c.Status == types.ClusterStatusActive:
			active = c
			return true, nil
		case c.Status == types.ClusterStatusFailed || c.Status == types.ClusterStatusDeleting:
			return false, fmt.Errorf("cluster %s is %s", name, state(c))
		}
		return false, nil
	})
	return active, err
}

func waitGone(ctx context.Context, client *eks.Client, name string, timeout time.Duration, progress *progress) error {
	return poll(ctx, client, name, timeout, progress, func(c *types.Cluster) (done bool, err error) {
		return c == nil, nil
	})
}

// poll describes the cluster, nil when there is none, until until says so. Trouble on the
// way is shown and outlived: the service may be restarting.
func poll(ctx context.Context, client *eks.Client, name string, timeout time.Duration, progress *progress, until func(*types.Cluster) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer progress.end()
	last := "not looked at yet"
	for {
		c, err := describe(ctx, client, name)
		var answer smithy.APIError
		switch {
		case err == nil:
			last = state(c)
		case isNotFound(err):
			c, last = nil, "gone"
		case errors.As(err, &answer) && answer.ErrorFault() == smithy.FaultClient:
			return apiError("describe cluster "+name, err)
		case ctx.Err() == nil:
			progress.show("cluster %s: %v", name, innermost(err))
		}
		if err == nil || isNotFound(err) {
			if done, err := until(c); done || err != nil {
				return err
			}
			progress.show("cluster %s is %s", name, last)
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("cluster %s is still %s after %s: see `ovenbird cluster describe %s`, or wait longer with --timeout", name, last, timeout, name)
			}
			return fmt.Errorf("wait for cluster %s: interrupted", name)
		}
	}
}

// state is a cluster's status with what the service says about it.
func state(c *types.Cluster) string {
	if c.Health != nil && len(c.Health.Issues) > 0 && c.Health.Issues[0].Message != nil {
		return fmt.Sprintf("%s (%s)", c.Status, *c.Health.Issues[0].Message)
	}
	return string(c.Status)
}

// progress shows what a wait is about: one live line on a terminal; otherwise a line for
// every change, and one now and then.
type progress struct {
	to      io.Writer
	live    bool
	started time.Time
	spoke   time.Time
	last    string
	width   int
}

func newProgress(to io.Writer) *progress {
	file, isFile := to.(*os.File)
	return &progress{to: to, live: isFile && term.IsTerminal(int(file.Fd())), started: time.Now()}
}

func (p *progress) show(format string, args ...any) {
	text, now := fmt.Sprintf(format, args...), time.Now()
	elapsed := now.Sub(p.started).Truncate(time.Second)
	if p.live {
		line := fmt.Sprintf("%s, %s", text, elapsed)
		fmt.Fprintf(p.to, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-len(line))))
		p.width = len(line)
		return
	}
	if text != p.last || now.Sub(p.spoke) >= speakEvery {
		fmt.Fprintf(p.to, "%s, %s\n", text, elapsed)
		p.last, p.spoke = text, now
	}
}

// end leaves the live line.
func (p *progress) end() {
	if p.live && p.width > 0 {
		fmt.Fprintln(p.to)
		p.width = 0
	}
}
