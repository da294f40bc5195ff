package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

const region = "us-west-2"

// clock is the catalog's time, which a test moves.
type clock struct{ now time.Time }

func open(t *testing.T, dir string, c *clock) *Catalog {
	t.Helper()
	catalog, err := Open(Options{
		Dir: dir, Account: "111122223333", Regions: []string{region, "us-east-1"}, Now: func() time.Time { return c.now },
		Delays: Delays{Appear: time.Second, Settle: time.Minute}, Logger: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(catalog.Close)
	return catalog
}

func block(n byte) ([]byte, Sum) {
	data := bytes.Repeat([]byte{n}, BlockSize)
	return data, sha256.Sum256(data)
}

// start starts a snapshot that is found from then on.
func start(t *testing.T, c *Catalog, k *clock, order Snapshot) string {
	t.Helper()
	order.Region = region
	if order.VolumeGiB == 0 {
		order.VolumeGiB = 1
	}
	s, err := c.Start(order)
	if err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(time.Second)
	return s.ID
}

func put(t *testing.T, c *Catalog, id string, index int, n byte) {
	t.Helper()
	data, sum := block(n)
	if err := c.Put(region, id, index, data, sum); err != nil {
		t.Fatal(err)
	}
}

func complete(t *testing.T, c *Catalog, id string, count int) {
	t.Helper()
	if _, err := c.Complete(region, id, count, nil); err != nil {
		t.Fatal(err)
	}
}

// finished waits for what happens in the background.
func finished(c *Catalog) { c.work.Wait() }

func status(t *testing.T, c *Catalog, id string) Status {
	t.Helper()
	s, ok := c.Snapshot(region, id)
	if !ok {
		t.Fatalf("no snapshot %s", id)
	}
	return s.Status
}

func TestASnapshotAppearsAndIsCompletedAMomentLater(t *testing.T) {
	k := &clock{time.Now()}
	c := open(t, t.TempDir(), k)
	s, err := c.Start(Snapshot{Region: region, VolumeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	data, sum := block(1)
	if err := c.Put(region, s.ID, 0, data, sum); !errors.Is(err, ErrNotFound) {
		t.Errorf("a block at once: %v", err)
	}
	k.now = k.now.Add(time.Second)
	put(t, c, s.ID, 0, 1)
	complete(t, c, s.ID, 1)
	finished(c)
	if got := status(t, c, s.ID); got != Sealed {
		t.Errorf("at once it is %s", got)
	}
	if err := c.Put(region, s.ID, 0, data, sum); !errors.Is(err, ErrNotPending) {
		t.Errorf("a block after the end: %v", err)
	}
	k.now = k.now.Add(time.Minute)
	if got := status(t, c, s.ID); got != Completed {
		t.Errorf("later it is %s", got)
	}
}

func TestASnapshotThatNobodyCompletesIsCancelled(t *testing.T) {
	k := &clock{time.Now()}
	c := open(t, t.TempDir(), k)
	id := start(t, c, k, Snapshot{Timeout: 10 * time.Minute})
	put(t, c, id, 0, 1)
	k.now = k.now.Add(9 * time.Minute)
	put(t, c, id, 1, 1)
	k.now = k.now.Add(9 * time.Minute)
	if got := status(t, c, id); got != Pending {
		t.Errorf("nine minutes after a block it is %s", got)
	}
	k.now = k.now.Add(2 * time.Minute)
	if got := status(t, c, id); got != Failed {
		t.Errorf("it is %s", got)
	}
	if _, err := c.Complete(region, id, 2, nil); !errors.Is(err, ErrNotPending) {
		t.Errorf("completed: %v", err)
	}
}

// crash makes the record say that the data was written before the machine's last start.
func crash(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "catalog.json")
	record, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(record, bytes.TrimSpace(boot), []byte("another boot")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAfterACrashOfTheMachineASnapshotIsWholeOrFailed(t *testing.T) {
	k, dir := &clock{time.Now()}, t.TempDir()
	before := open(t, dir, k)
	sealed, whole, torn := start(t, before, k, Snapshot{}), start(t, before, k, Snapshot{}), start(t, before, k, Snapshot{})
	put(t, before, sealed, 3, 1)
	put(t, before, whole, 3, 1)
	for index := range 4 { // long enough for the sealed one to be finished meanwhile
		put(t, before, torn, index, 1)
	}
	before.cancel()
	complete(t, before, sealed, 1)
	before.Close()
	disk, err := os.OpenFile(filepath.Join(dir, "snapshots", torn, diskFile), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.WriteAt([]byte{9}, 3*BlockSize+17); err != nil {
		t.Fatal(err)
	}
	_ = disk.Close()
	crash(t, dir)

	after := open(t, dir, k)
	if got := status(t, after, whole); got != Pending {
		t.Errorf("the whole one is %s", got)
	}
	complete(t, after, whole, 1)
	if got := status(t, after, torn); got != Failed {
		t.Errorf("the torn one is %s", got)
	}
	finished(after)
	k.now = k.now.Add(time.Minute)
	if got := status(t, after, sealed); got != Completed {
		t.Errorf("the sealed one is %s", got)
	}
}

func TestAChildThatWasKilledWhileItInheritedIsFinished(t *testing.T) {
	k, dir := &clock{time.Now()}, t.TempDir()
	c := open(t, dir, k)
	parent := start(t, c, k, Snapshot{})
	for index := range 4 {
		put(t, c, parent, index, byte(index+1))
	}
	complete(t, c, parent, 4)
	finished(c)
	k.now = k.now.Add(time.Minute)
	child := start(t, c, k, Snapshot{Parent: parent, VolumeGiB: 2})
	put(t, c, child, 1, 9)
	c.cancel() // what is done in the background ends at its next block
	complete(t, c, child, 1)
	c.Close()
	if err := c.DeleteSnapshot(region, parent); err != nil {
		t.Fatal(err) // the child does not need its parent's name any more
	}

	c = open(t, dir, k)
	finished(c)
	k.now = k.now.Add(time.Minute)
	s, ok := c.Snapshot(region, child)
	if !ok || s.Status != Completed {
		t.Fatalf("the child is %+v", s)
	}
	for index, want := range []byte{1, 9, 3, 4} {
		data, _, ok, err := c.Read(s, index)
		if err != nil || !ok || data[0] != want || data[BlockSize-1] != want {
			t.Errorf("block %d: %v, %v", index, ok, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "snapshots", child, "parent*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func TestASnapshotTakesNoMoreDiskThanItsBlocks(t *testing.T) {
	k, dir := &clock{time.Now()}, t.TempDir()
	c := open(t, dir, k)
	id := start(t, c, k, Snapshot{VolumeGiB: 8})
	put(t, c, id, 9000, 1)
	complete(t, c, id, 1)
	finished(c)
	info, err := os.Stat(filepath.Join(dir, "snapshots", id, diskFile))
	if err != nil || info.Size() != 8<<30 || allocated(info) > 2*BlockSize {
		t.Errorf("%d bytes, %d on disk, %v", info.Size(), allocated(info), err)
	}
}

func TestWhatIsNobodysIsRemovedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	orphan := filepath.Join(dir, "snapshots", "snap-0123456789abcdef0")
	if err := os.MkdirAll(orphan, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir, &clock{time.Now()})
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestACopyOutlivesItsSource(t *testing.T) {
	k := &clock{time.Now()}
	c := open(t, t.TempDir(), k)
	id := start(t, c, k, Snapshot{})
	put(t, c, id, 0, 7)
	complete(t, c, id, 1)
	finished(c)
	k.now = k.now.Add(time.Minute)
	copied, err := c.CopySnapshot(region, id, Snapshot{Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteSnapshot(region, id); err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(time.Minute)
	s, ok := c.Snapshot("us-east-1", copied.ID)
	if !ok || s.Status != Completed {
		t.Fatalf("the copy is %+v", s)
	}
	if data, _, ok, err := c.Read(s, 0); err != nil || !ok || data[0] != 7 {
		t.Errorf("its block: %v, %v", ok, err)
	}
}

// allocated is how much of a file is on disk, in bytes.
func allocated(info os.FileInfo) int64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return stat.Blocks * 512
}
