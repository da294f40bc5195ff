package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// SnapshotBlock is what EBS fetches from a snapshot at a time, in bytes (EBS direct APIs,
// BlockSize).
const SnapshotBlock = 512 << 10

// drive is the root volume: an overlay, which dies with the instance, so that what the
// guest flushes need not reach the host's disk.
//
// With a snapshotRate, in MiB/s, the volume is cold as one that EC2 has just made of a
// snapshot: a block of the image comes at that rate when something of it is first touched,
// and is kept in a file between the image and the overlay.
func (s Spec) drive(snapshotRate int) []string {
	drive := "if=none,id=" + rootDrive + ",format=qcow2,cache=unsafe,discard=unmap,file=" + diskFile
	device := []string{"-device", "nvme,drive=" + rootDrive + ",bootindex=0,serial=" + serial(s.Volume)}
	if snapshotRate == 0 {
		return append([]string{"-drive", drive}, device...)
	}
	return append([]string{
		"-object", fmt.Sprintf("throttle-group,id=snapshot-rate,x-bps-read=%d", snapshotRate<<20),
		"-blockdev", "driver=raw,node-name=image,read-only=on,file.driver=file,file.filename=" + strings.ReplaceAll(s.Image, ",", ",,"),
		"-blockdev", "driver=throttle,node-name=snapshot,read-only=on,throttle-group=snapshot-rate,file=image",
		"-blockdev", "driver=qcow2,node-name=fetched,backing=snapshot,cache.no-flush=on,file.driver=file,file.cache.no-flush=on,file.filename=" + fetchedFile,
		"-blockdev", "driver=copy-on-read,node-name=cold,file=fetched",
		"-drive", drive + ",backing=cold",
	}, device...)
}

// makeVolume makes the files of the root volume.
func (h Hypervisor) makeVolume(ctx context.Context, s Spec) error {
	image, err := os.Stat(s.Image)
	if err != nil {
		return err
	}
	size := image.Size()
	if s.VolumeGiB > 0 {
		size = int64(s.VolumeGiB) << 30
	}
	if h.SnapshotRate == 0 {
		return h.create(ctx, s.Dir, diskFile, size, "-F", "raw", "-b", s.Image)
	}
	return errors.Join(
		h.create(ctx, s.Dir, fetchedFile, image.Size(), "-o", fmt.Sprintf("cluster_size=%d", SnapshotBlock)),
		h.create(ctx, s.Dir, diskFile, size),
	)
}

func (h Hypervisor) create(ctx context.Context, dir, file string, size int64, options ...string) error {
	args := append([]string{"create", "-q", "-f", "qcow2"}, options...)
	cmd := exec.CommandContext(ctx, h.Image, append(args, file, fmt.Sprint(size))...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// fetched is how many blocks a cold volume has fetched from its snapshot; 0 for one that
// is not cold. Of the clusters in the file that keeps them five are qcow2's own: header,
// table and block of reference counts, and the two levels of the map (of 32 GiB).
func fetched(dir string) (int64, error) {
	info, err := os.Stat(filepath.Join(dir, fetchedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count the blocks that came from the snapshot: %w", err)
	}
	return max(0, info.Size()/SnapshotBlock-5), nil
}
