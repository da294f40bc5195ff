package supervise

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestALogIsSetAsideWhenItIsFullAndTheOldestGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.log")
	writer, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	say := func(text string) {
		t.Helper()
		if _, err := writer.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := rotate(path, 4, 2); err != nil {
			t.Fatal(err)
		}
	}
	// Left by a service that was killed while it copied.
	if err := os.WriteFile(path+".new", []byte("a half copy of something long"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one.", "two.", "thr", "ee.", "four.", "now"} {
		say(text)
	}
	want := map[string]string{"etcd.log": "now", "etcd.log.1": "four.", "etcd.log.2": "three."}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != len(want) {
		t.Errorf("files %v, %v, want %v", entries, err, want)
	}
	for name, text := range want {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
		if err != nil || string(data) != text {
			t.Errorf("%s holds %q, %v, want %q", name, data, err, text)
		}
	}
}

func TestWhatIsSaidWhileALogIsCopiedIsSetAsideToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.log")
	writer, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	say := func(text string) {
		t.Helper()
		if _, err := writer.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	say("early ")
	rotation, err := beginRotation(path)
	if err != nil {
		t.Fatal(err)
	}
	say("meanwhile")
	if err := rotation.end(2); err != nil {
		t.Fatal(err)
	}
	say("after")
	for name, want := range map[string]string{path: "after", path + ".1": "early meanwhile"} {
		if data, err := os.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v, want %q", name, data, err, want)
		}
	}
}

func TestALogThatCannotBeSetAsideStaysAndLeavesNoCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.log")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(numbered(path, 1), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := rotate(path, 4, 1); err == nil {
		t.Error("no error")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "text" {
		t.Errorf("the log holds %q, %v", data, err)
	}
	if _, err := os.Stat(fresh(path)); !os.IsNotExist(err) {
		t.Errorf("the copy is left: %v", err)
	}
}

func TestAComponentStartsAlthoughItsLogCannotBeSetAside(t *testing.T) {
	b := newBench(t, quick())
	log := filepath.Join(b.dir, "run", "helper.log")
	if err := os.MkdirAll(filepath.Join(fresh(log), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, make([]byte, maxLog), 0o600); err != nil {
		t.Fatal(err)
	}
	b.apply(b.component())
	b.ready()
}

func TestALogIsBoundedAlthoughItsWriterIsAnEarlierServicesChild(t *testing.T) {
	b := newBench(t, quick())
	b.apply(b.component())
	first := b.ready()
	b.Detach()
	log, text := filepath.Join(b.dir, "run", "helper.log"), bytes.Repeat([]byte("x"), maxLog)
	if err := os.WriteFile(log, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.write("chatty", "")

	b.Supervisor = New(filepath.Join(b.dir, "run"), quick(), zap.NewNop())
	b.apply(b.component())
	if second := b.ready(); second.PID != first.PID {
		t.Fatal("the process was replaced")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !strings.HasPrefix(b.log(), "helper goes on\n") {
		if ctx.Err() != nil {
			info, err := os.Stat(log)
			t.Fatalf("the log is not written anew: %v, %v", info, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	aside, err := os.ReadFile(log + ".1")
	if err != nil || !bytes.HasPrefix(aside, text) {
		t.Errorf("%d bytes were set aside, %v, want the %d there were", len(aside), err, len(text))
	}
}
