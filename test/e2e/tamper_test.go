package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	diskfs "github.com/diskfs/go-diskfs"

	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
)

// checkTampering boots the image with one bit of its root flipped.
func checkTampering(t *testing.T, l *lab) {
	tampered := filepath.Join(t.TempDir(), "disk.raw")
	l.run(t, time.Minute, "cp", "--sparse=always", ".ovenbird/image/disk.raw", tampered)
	flipBit(t, tampered)
	l.ctl(t, time.Minute, "up", "--image", tampered)
	out := l.ctl(t, 3*time.Minute, "run-instances", "--output", "json")
	var launched []struct {
		ID string `json:"instanceId"`
	}
	if err := json.Unmarshal([]byte(out), &launched); err != nil || len(launched) != 1 {
		t.Fatalf("want one instance, got %s (%v)", out, err)
	}
	const panicked = "Kernel panic - not syncing: dm-verity device corrupted"
	l.awaitConsole(t, launched[0].ID, panicked, 3*time.Minute)
	l.ctl(t, 3*time.Minute, "terminate-instances", "--skip-os-shutdown", "--wait", launched[0].ID)
}

// flipBit changes one bit of the root file system's superblock.
func flipBit(t *testing.T, image string) {
	t.Helper()
	opened, err := diskfs.Open(image, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	table, err := opened.GetPartitionTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, partition := range table.GetPartitions() {
		if partition.Label() != disk.Root {
			continue
		}
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		where := partition.GetStart() + 1024 // where the superblock of an erofs lies
		if _, err := f.ReadAt(b, where); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, where); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s has no partition %s", image, disk.Root)
}

// awaitConsole follows an instance's console until it shows a text.
func (l *lab) awaitConsole(t *testing.T, instance, text string, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	follow := exec.CommandContext(ctx, filepath.Join(l.root, "bin/ovenbird-lab"), "console", "--follow",
		"--name", l.name, "--state-dir", l.state+"/lab", instance)
	console, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = follow.Wait()
	}()
	var last []string
	for lines := bufio.NewScanner(console); lines.Scan(); {
		if strings.Contains(lines.Text(), text) {
			return
		}
		last = append(last[max(0, len(last)-19):], lines.Text())
	}
	t.Errorf("the console of %s does not say %q; its last lines:\n%s", instance, text, strings.Join(last, "\n"))
}
