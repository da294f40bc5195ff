package image

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// stepVerity packs the root file system without /var into an erofs, and hashes that. An
// ext4 root it leaves to stepDisk.
type stepVerity struct{ *bake }

// Run makes the root and its hashes.
func (s *stepVerity) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if s.config.RootFilesystem != rootVerity {
		return multistep.ActionContinue
	}
	return s.step(state, "Compressing and hashing the root file system", func() error {
		if err := moveLayers(s.root.Dir); err != nil {
			return err
		}
		if err := orderFiles(s.root.Dir); err != nil {
			return err
		}
		if err := settleTimes(s.root.Dir, s.epoch); err != nil {
			return err
		}
		if err := s.inTools(ctx, "mkfs.erofs", makeErofs(s.epoch, toolsWork+"/root", toolsWork+"/"+rootFile)...); err != nil {
			return fmt.Errorf("compress the root file system: %w", err)
		}
		// Later steps look at the tree, where the links have done their work.
		if err := os.RemoveAll(filepath.Join(s.root.Dir, bootOrder)); err != nil {
			return fmt.Errorf("compress the root file system: %w", err)
		}
		// veritysetup writes into a file that is there already.
		if err := os.WriteFile(s.file(verityFile), nil, 0o644); err != nil { //nolint:gosec // hashes are no secret
			return fmt.Errorf("hash the root file system: %w", err)
		}
		hash := filepath.Join(toolsWork, "root.hash")
		err := s.inTools(ctx, "veritysetup", "format",
			"--uuid="+verityUUID, "--salt="+veritySalt, "--hash=sha256",
			"--data-block-size=4096", "--hash-block-size=4096", "--root-hash-file="+hash,
			toolsWork+"/"+rootFile, toolsWork+"/"+verityFile)
		if err != nil {
			return fmt.Errorf("hash the root file system: %w", err)
		}
		s.rootHash, err = readRootHash(s.file("root.hash"))
		return err
	})
}

// veritySalt is the same in every image, as two bakes of the same must be. The
// attacks that a salt hinders need many disks with different ones.
const veritySalt = "6f76656e626972642d766572697479206f76656e626972642d76657269747921"

// makeErofs are mkfs.erofs's arguments to pack directory root into file image.
func makeErofs(epoch time.Time, root, image string) []string {
	return []string{
		"--quiet",
		// Level 3 of zstd reads less than lz4hc,12 at boot and takes half its time to make.
		"-zzstd,3", "-C65536",
		"-U", rootUUID,
		"-T", strconv.FormatInt(epoch.Unix(), 10), "--all-time",
		// /var lies on a partition of its own; here it is where that is mounted.
		"--exclude-regex=^var/.+",
		image, root,
	}
}

// Where containerd keeps the layers of images that are unpacked, and where they come to
// lie instead.
const (
	snapshots = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
	layers    = "usr/lib/ovenbird/layers"
)

// moveLayers moves the layers of the container images that are baked in out of /var and
// into the root, where they are compressed and verified as everything else that runs.
// containerd finds them by a link; it never writes into a layer. The link leads to the
// whole directory of a layer: the last part of the path that is mounted must not be a
// link itself, or a pod with a user namespace gets files with the wrong owners.
func moveLayers(root string) error {
	found, err := filepath.Glob(filepath.Join(root, snapshots, "*"))
	if err != nil {
		return fmt.Errorf("move container layers into the root: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(root, layers), 0o755); err != nil { //nolint:gosec // as on any system
		return fmt.Errorf("move container layers into the root: %w", err)
	}
	for _, layer := range found {
		place := filepath.Join(layers, filepath.Base(layer))
		if err := os.Rename(layer, filepath.Join(root, place)); err != nil {
			return fmt.Errorf("move container layers into the root: %w", err)
		}
		if err := os.Symlink("/"+place, layer); err != nil {
			return fmt.Errorf("move container layers into the root: %w", err)
		}
	}
	return nil
}

// readRootHash reads what veritysetup found: a SHA-256 in hexadecimal.
func readRootHash(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the root hash: %w", err)
	}
	hash := strings.TrimSpace(string(text))
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != 32 {
		return "", fmt.Errorf("read the root hash: veritysetup wrote %q", text)
	}
	return hash, nil
}

// Cleanup leaves the root to stepWorkspace.
func (s *stepVerity) Cleanup(multistep.StateBag) {}
