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
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until "+until)
	f.addTimeout(cmd)
}

func (f *waitFlags) addTimeout(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long to wait")
}

func waitActive(ctx context.Context, client *eks.Client, name string, timeout time.Duration, progress *progress) (active *types.Cluster, err error) {
	err = poll(ctx, clusterSubject(name), timeout, progress, func(ctx context.Context) (now string, done bool, err error) {
		active, err = describe(ctx, client, name)
		switch {
		case isNotFound(err):
			return "", true, fmt.Errorf("cluster %s does not exist", name)
		case err != nil:
			return "", false, err
		case active.Status == types.ClusterStatusFailed || active.Status == types.ClusterStatusDeleting:
			return "", true, fmt.Errorf("cluster %s is %s", name, state(active))
		}
		return state(active), active.Status == types.ClusterStatusActive, nil
	})
	return active, err
}

func waitGone(ctx context.Context, client *eks.Client, name string, timeout time.Duration, progress *progress) error {
	return poll(ctx, clusterSubject(name), timeout, progress, func(ctx context.Context) (now string, done bool, err error) {
		c, err := describe(ctx, client, name)
		switch {
		case isNotFound(err):
			return "", true, nil
		case err != nil:
			return "", false, err
		}
		return state(c), false, nil
	})
}

// subject is what a wait is about: its name, and the command that shows it.
type subject struct{ name, command string }

func clusterSubject(name string) subject {
	return subject{"cluster " + name, "ovenbird cluster describe " + name}
}

// poll looks until the look says that it is done, well or with an error. Other errors on
// the way are shown and outlived: the service may be restarting.
func poll(ctx context.Context, of subject, timeout time.Duration, progress *progress, look func(context.Context) (now string, done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer progress.end()
	last := "not looked at yet"
	for {
		now, done, err := look(ctx)
		var answer smithy.APIError
		switch {
		case done:
			return err
		case err == nil:
			last = now
			progress.show("%s is %s", of.name, now)
		case errors.As(err, &answer) && answer.ErrorFault() == smithy.FaultClient:
			return apiError("describe "+of.name, err)
		case ctx.Err() == nil:
			progress.show("%s: %v", of.name, innermost(err))
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s is still %s after %s: see `%s`, or wait longer with --timeout", of.name, last, timeout, of.command)
			}
			return fmt.Errorf("wait for %s: interrupted", of.name)
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
		line := fit(text, p.columns()-len(elapsed.String())-3) + ", " + elapsed.String()
		fmt.Fprintf(p.to, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-len(line))))
		p.width = len(line)
		return
	}
	if text != p.last || now.Sub(p.spoke) >= speakEvery {
		fmt.Fprintf(p.to, "%s, %s\n", text, elapsed)
		p.last, p.spoke = text, now
	}
}

// columns is how wide the live line's terminal is.
func (p *progress) columns() int {
	if file, isFile := p.to.(*os.File); isFile {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			return width
		}
	}
	return 80
}

// fit shortens text that would go on in a second line, which the next could not take the place of.
func fit(text string, width int) string {
	if runes := []rune(text); len(runes) > max(width, 1) {
		return string(runes[:max(width, 1)-1]) + "…"
	}
	return text
}

// remind shows what is not news, when a plain line would come after a silence that is too long.
func (p *progress) remind(format string, args ...any) {
	if p.live || time.Since(p.spoke) >= speakEvery {
		p.show(format, args...)
	}
}

// end leaves the live line.
func (p *progress) end() {
	if p.live && p.width > 0 {
		fmt.Fprintln(p.to)
		p.width = 0
	}
}
