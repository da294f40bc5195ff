package namespace

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func newNamespace(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	name := fmt.Sprintf("ovenbird-test-%d", os.Getpid())
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func TestANamespaceIsMadeEnteredAndRemoved(t *testing.T) {
	name := newNamespace(t)
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}

	if ok, err := Exists(name); !ok || err != nil {
		t.Fatalf("after Create: exists %v, %v", ok, err)
	}
	err = Do(name, func() error {
		inside, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		if inside == outside {
			t.Error("Do ran outside of the namespace")
		}
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		if len(links) == 0 || links[0].Attrs().Name != "lo" {
			t.Errorf("links in a fresh namespace: %v", links)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := os.Readlink("/proc/self/ns/net"); now != outside {
		t.Errorf("the caller was moved from %s to %s", outside, now)
	}

	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	if ok, err := Exists(name); ok || err != nil {
		t.Errorf("after Delete: exists %v, %v", ok, err)
	}
	if err := Delete(name); err != nil {
		t.Errorf("second Delete: %v", err)
	}
}

func TestALeftOverFileIsNotTakenForANamespace(t *testing.T) {
	name := newNamespace(t)
	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Path(name), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if ok, err := Exists(name); ok || err != nil {
		t.Fatalf("a bare file: exists %v, %v", ok, err)
	}
	if err := Create(name); err != nil {
		t.Fatalf("create over a bare file: %v", err)
	}
}

func TestClearEndsWhatIsInsideAndNothingElse(t *testing.T) {
	name := newNamespace(t)
	outsider := exec.Command("sleep", "60")
	if err := outsider.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outsider.Process.Kill(); _ = outsider.Wait() }()

	polite := exec.Command("sleep", "60")
	// Deaf to SIGTERM from before it says so, and alone: it starts no child to wait for.
	deaf := exec.Command("sh", "-c", `trap "" TERM; echo deaf; exec sleep 60`)
	said, err := deaf.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = Do(name, func() error {
		if err := polite.Start(); err != nil {
			return err
		}
		return deaf.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	pids, err := Processes(name)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(pids)
	want := []int{polite.Process.Pid, deaf.Process.Pid}
	slices.Sort(want)
	if !slices.Equal(pids, want) {
		t.Errorf("processes %v, want %v", pids, want)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := Clear(ctx, name, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := polite.Wait(); err == nil || err.Error() != "signal: terminated" {
		t.Errorf("polite process ended with %v", err)
	}
	if err := deaf.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("deaf process ended with %v", err)
	}
	if inside, err := Holds(name, outsider.Process.Pid); inside || err != nil {
		t.Errorf("outsider inside: %v, %v", inside, err)
	}
	if err := outsider.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process outside is gone: %v", err)
	}
}
