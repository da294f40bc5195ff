package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be a daemon: POSIX locks are invisible within a process.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STATE_TEST_DAEMON"); dir != "" {
		if err := Dir(dir).HoldDaemon(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		var wait [1]byte
		_, _ = os.Stdin.Read(wait[:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestALabIsReadBackAsItWasSaved(t *testing.T) {
	dir := Dir(t.TempDir())
	if _, err := dir.Load(); !errors.Is(err, ErrNoLab) {
		t.Fatalf("load where no lab is: %v, want ErrNoLab", err)
	}
	want := Lab{
		Name: "x", ProxyPort: 3128, Accelerator: Accelerator{Name: "tcg", Reason: "no /dev/kvm"},
		Images: []Image{{ID: "ami-1", Source: "/d", Size: 3}}, CreatedAt: time.Unix(1700000000, 0).UTC(),
	}
	if err := dir.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := dir.Load()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnImageIsRegisteredOnceAndKeepsItsBytes(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	bake := func(fill byte) Image {
		t.Helper()
		// As a builder does: a new file in the old one's place.
		if err := os.WriteFile(disk+".new", bytes.Repeat([]byte{fill}, 512), 0o644); err != nil {
			t.Fatal(err)
		}
		stamp := time.Unix(1700000000+int64(fill), 0)
		if err := errors.Join(os.Chtimes(disk+".new", stamp, stamp), os.Rename(disk+".new", disk)); err != nil {
			t.Fatal(err)
		}
		image, err := InspectImage(disk, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
	first := bake(1)
	var lab Lab
	var err error
	for range 2 {
		if lab, err = dir.Register(lab, first); err != nil || len(lab.Images) != 1 {
			t.Fatalf("%+v, %v", lab, err)
		}
	}
	second := bake(2)
	if lab, err = dir.Register(lab, second); err != nil || second.ID == first.ID {
		t.Fatalf("%+v, %v", lab, err)
	}
	if newest, _ := lab.Newest(); newest.ID != second.ID {
		t.Errorf("the newest is %s", newest.ID)
	}
	if old, ok := lab.Image(first.ID); !ok || !dir.Intact(old) {
		t.Error("the first image is gone")
	}
	if data, _ := os.ReadFile(dir.Image(first.ID)); len(data) != 512 || data[0] != 1 {
		t.Error("the first image has other bytes now")
	}
	if err := os.WriteFile(dir.Image(second.ID), make([]byte, 1024), 0o644); err != nil {
		t.Fatal(err)
	}
	if dir.Intact(second) {
		t.Error("an image that was written over passes for the one that was registered")
	}
}

func TestASecondCommandIsRefusedWhileTheFirstHoldsTheLab(t *testing.T) {
	dir := Dir(t.TempDir())
	unlock, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Lock(); !errors.Is(err, ErrBusy) {
		t.Fatalf("second lock: %v, want ErrBusy", err)
	}
	unlock()
	again, err := dir.Lock()
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	again()
}

func TestTheDaemonIsTheProcessThatHoldsItsLock(t *testing.T) {
	dir := Dir(t.TempDir())
	if pid, ok := dir.Daemon(); ok {
		t.Fatalf("daemon %d before there was one", pid)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(self)
	daemon.Env = append(os.Environ(), "STATE_TEST_DAEMON="+string(dir))
	stdin, err := daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	n, _ := stdout.Read(answer)
	if got := strings.TrimSpace(string(answer[:n])); got != "held" {
		t.Fatalf("daemon said %q", got)
	}
	if pid, ok := dir.Daemon(); !ok || pid != daemon.Process.Pid {
		t.Errorf("daemon is %d %v, want %d", pid, ok, daemon.Process.Pid)
	}
	if err := dir.HoldDaemon(); err == nil {
		t.Error("a second daemon was let in")
	}
	_ = stdin.Close()
	_ = daemon.Wait()
	if pid, ok := dir.Daemon(); ok {
		t.Errorf("daemon is %d after it ended", pid)
	}
}

func TestSecretsLieInDirectoriesOfTheirOwn(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "deep", "lab"))
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir.TLS())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%s has mode %o", dir.TLS(), info.Mode().Perm())
	}
}
