package boot

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func TestManyChangesAreWrittenTogetherAndTheLastOneIsThere(t *testing.T) {
	var writes, change int
	root := rootfs.Root(t.TempDir())
	r := newReporter(Options{Root: root, Log: zap.NewNop(), Console: io.Discard}, func() Status {
		writes++
		return Status{Warnings: make([]string, change)}
	})
	began := time.Now()
	stop := r.start()
	for range 1000 {
		r.changed()
	}
	stop() // from here on nobody else reads change
	if most := 2 + int(time.Since(began)/pace); writes > most {
		t.Errorf("1000 changes were written in %d goes, want at most %d", writes, most)
	}
	stop = r.start()
	change = 3
	r.changed()
	stop()
	status, err := ReadStatus(root)
	if err != nil || len(status.Warnings) != 3 {
		t.Errorf("the file has %+v, %v", status, err)
	}
}

func TestTheFileIsWrittenWhileTheNodeJoins(t *testing.T) {
	asked := make(chan struct{})
	root := rootfs.Root(t.TempDir())
	r := newReporter(Options{Root: root, Log: zap.NewNop(), Console: io.Discard}, func() Status {
		select {
		case asked <- struct{}{}:
		case <-t.Context().Done():
		}
		return Status{Agent: "running"}
	})
	stop := r.start()
	r.changed()
	<-asked
	r.changed()
	<-asked // so the first one is written
	if status, err := ReadStatus(root); err != nil || status.Agent != "running" {
		t.Errorf("the file has %+v, %v", status, err)
	}
	if _, err := os.Stat(root.Join(MetricsPath)); err != nil {
		t.Error(err)
	}
	stop()
}

// deafConsole takes nothing, and counts how often it was asked to.
type deafConsole int

func (c *deafConsole) Write([]byte) (int, error) {
	*c++
	return 0, errors.New("nobody listens")
}

func TestAConsoleThatTakesNothingDoesNotHoldUpTheEnd(t *testing.T) {
	var console deafConsole
	r := newReporter(Options{Root: rootfs.Root(t.TempDir()), Log: zap.NewNop(), Console: &console}, func() Status { return Status{} })
	for range 2 * mostLines {
		r.tell(0, "a line")
	}
	if len(r.lines) != mostLines {
		t.Errorf("%d lines wait", len(r.lines))
	}
	quit := make(chan struct{})
	close(quit)
	r.keepTelling(quit)
	if console > 40 { // it may take a few before it sees that it is to end
		t.Errorf("the end took %d tries", console)
	}
}

func TestTheConsoleGetsEveryLineInOrder(t *testing.T) {
	var console strings.Builder
	r := newReporter(Options{Root: rootfs.Root(t.TempDir()), Log: zap.NewNop(), Console: &console}, func() Status { return Status{} })
	stop := r.start()
	for i := range 3 {
		r.tell(float64(i), "line %d", i)
	}
	stop()
	const want = "ovenbird-agent: [   0.0] line 0\novenbird-agent: [   1.0] line 1\novenbird-agent: [   2.0] line 2\n"
	if console.String() != want {
		t.Errorf("got %q", console.String())
	}
}
