package catalog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAVolumesDiskIsKeptAsASnapshot(t *testing.T) {
	k := &clock{time.Unix(1e9, 0)}
	dir := t.TempDir()
	c := open(t, dir, k)
	disk := filepath.Join(t.TempDir(), "disk")
	one, sum := block(1)
	file, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	_, written := file.WriteAt(one, 3*BlockSize)
	_, zeros := file.WriteAt(make([]byte, BlockSize), 7*BlockSize)
	if err := errors.Join(written, zeros, file.Truncate(1<<30), file.Close()); err != nil {
		t.Fatal(err)
	}
	order := Snapshot{Region: region, VolumeID: "vol-1", VolumeGiB: 1, Token: "once", Tags: map[string]string{"Name": "data"}}
	made, err := c.Capture(order, disk)
	if err != nil || made.Status != Sealed || made.VolumeID != "vol-1" || made.Tags["Name"] != "data" {
		t.Fatalf("%+v, %v", made, err)
	}
	if again, err := c.Capture(order, disk); err != nil || again.ID != made.ID {
		t.Errorf("the same token takes %s, %v", again.ID, err)
	}
	k.now = k.now.Add(time.Minute)
	c.Close()
	c = open(t, dir, k)
	if got := status(t, c, made.ID); got != Completed {
		t.Errorf("a minute later it is %s", got)
	}
	kept, _ := c.Snapshot(region, made.ID)
	blocks, err := c.Blocks(kept, 0, 100)
	if err != nil || len(blocks) != 1 || blocks[0].Index != 3 || blocks[0].Sum != sum {
		t.Errorf("its blocks are %+v, %v", blocks, err)
	}
	if data, _, ok, err := c.Read(kept, 3); !ok || err != nil || !bytes.Equal(data, one) {
		t.Errorf("block 3 is another: %v, %v", ok, err)
	}
}

func TestAVolumeThatWasNeverWrittenToHasABlankSnapshot(t *testing.T) {
	k := &clock{time.Unix(1e9, 0)}
	c := open(t, t.TempDir(), k)
	made, err := c.Capture(Snapshot{Region: region, VolumeID: "vol-1", VolumeGiB: 1}, "/no/such/disk")
	if err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(time.Minute)
	kept, _ := c.Snapshot(region, made.ID)
	if blocks, err := c.Blocks(kept, 0, 100); err != nil || len(blocks) != 0 {
		t.Errorf("its blocks are %+v, %v", blocks, err)
	}
}
