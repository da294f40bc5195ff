package journal

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAJournalSaysAfterACrashWhatItSaidBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "j")
	j := open(t, path)
	previous := "ami-1"
	must(t, j.Begin(Build{ID: "b", Region: "r", Content: "c"}))
	must(t, j.Have(Resource{Kind: Snapshot, Region: "r", Token: "t"}))
	must(t, j.Have(Resource{Kind: Image, Region: "r", Name: "n"}))
	must(t, j.Have(Resource{Kind: Image, Region: "other", Name: "n"}))
	must(t, j.Have(Resource{Kind: Parameter, Region: "r", Name: "/one", Previous: &previous}))
	must(t, j.Have(Resource{Kind: Parameter, Region: "r", Name: "/two"}))
	must(t, j.Have(Resource{Kind: Snapshot, Region: "r", Token: "t", ID: "snap-1"}))
	must(t, j.Gone(Resource{Kind: Image, Region: "other"}))
	for _, index := range []int32{0, 7, 8, 131071} {
		must(t, j.Sent(index))
	}
	build, resources := j.Build(), j.Resources()
	j.Close()

	// The last line of a process that was killed in the middle of writing it.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"have":{"kind":"ima`)
	must(t, err)
	must(t, f.Close())

	j = open(t, path)
	if got := j.Build(); got != build {
		t.Errorf("the build is %+v, want %+v", got, build)
	}
	if got := j.Resources(); !reflect.DeepEqual(got, resources) || len(got) != 4 || got[0].ID != "snap-1" {
		t.Errorf("the resources are %+v, want %+v", got, resources)
	}
	for index, want := range map[int32]bool{0: true, 1: false, 7: true, 8: true, 131071: true, 131072: false, 9999999: false} {
		if j.WasSent(index) != want {
			t.Errorf("block %d was sent: %v, want %v", index, !want, want)
		}
	}
	must(t, j.Sent(1)) // the journal goes on behind the line that was cut off
	j.Close()
	if !open(t, path).WasSent(1) {
		t.Error("what is written after mending is lost")
	}
}

func TestALineThatDoesNotFitIsTakenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	must(t, j.Sent(1))
	info, err := os.Stat(path)
	must(t, err)
	// As on a disk that is full after five bytes.
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(info.Size()) + 5, Max: before.Max}))
	err = j.Sent(2)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &before))
	if err == nil {
		t.Error("nothing is said about a line that does not fit")
	}
	must(t, j.Sent(3))
	j.Close()
	j = open(t, path)
	if !j.WasSent(1) || j.WasSent(2) || !j.WasSent(3) {
		t.Error("the journal does not say what was written")
	}
}

func TestBlocksAreForgottenWithTheirSnapshot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	must(t, j.Have(Resource{Kind: Snapshot, Region: "r"}))
	must(t, j.Sent(3))
	must(t, j.Gone(Resource{Kind: Snapshot, Region: "r"}))
	j.Close()
	if open(t, path).WasSent(3) {
		t.Error("a block of a snapshot that is gone counts as sent")
	}
}

func TestOneProcessHasAJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	if _, err := Open(path); !errors.Is(err, ErrBusy) {
		t.Errorf("a second opening gives %v", err)
	}
	must(t, j.Remove())
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
	open(t, path)
}

func TestADamagedJournalIsNotGuessedAt(t *testing.T) {
	for _, text := range []string{"{\"block\":-1}\n", "{\"block\":x}\n", "nonsense\n"} {
		path := filepath.Join(t.TempDir(), "j")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := Open(path); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
