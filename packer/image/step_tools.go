package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// stepTools finds or makes the tree with the tools that make the disk. It is kept in
// the cache, by the packages that it is made of, and shared by all builds. Nothing tells
// whether a kept tree was changed. So a bake that somebody relies on to make the bytes of
// a lock, or that holds a key, makes a tree of its own, of packages that are hashed.
type stepTools struct{ *bake }

// Run finds or makes the tools.
func (s *stepTools) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	dir := toolsDirectory(s.config.CacheDirectory, s.lock.Tools)
	lay := s.cache
	if s.config.freshTools() {
		dir, lay = s.file("tools-tree"), s.layOut
	}
	s.tools = tree.Tree{Dir: dir, Epoch: s.epoch}
	if _, err := os.Stat(dir); err == nil {
		now := time.Now()
		_ = os.Chtimes(dir, now, now) // in use; see removeUnused
		return multistep.ActionContinue
	}
	return s.step(state, "Laying out the tools that make a disk ("+strings.Join(toolPackages, ", ")+")", func() error {
		return lay(ctx, dir)
	})
}

// freshTools tells whether the tools must not be those that another bake has kept.
func (c *Config) freshTools() bool {
	return c.LockFile != "" || c.SecureBootKey != "" || c.SigningKey != ""
}

// cache lays the tree out beside its place and renames it there. Builds that want it at
// the same time wait for the first; what a killed build has left is removed.
func (s *stepTools) cache(ctx context.Context, dir string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // a cache holds no secret
		return fmt.Errorf("keep the tools: %w", err)
	}
	lock, err := waitForDirectory(ctx, parent)
	if err != nil {
		return fmt.Errorf("wait for the tools in %s: %w", parent, err)
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	s.removeUnused(parent)
	partial := filepath.Join(parent, ".partial")
	s.removeAll(partial)
	defer s.removeAll(partial)
	if err := s.layOut(ctx, partial); err != nil {
		return err
	}
	// A power cut must not leave a tree under its name whose files are empty.
	if err := unix.Syncfs(int(lock.Fd())); err != nil {
		return fmt.Errorf("keep the tools: %w", err)
	}
	if err := os.Rename(partial, dir); err != nil {
		return fmt.Errorf("keep the tools: %w", err)
	}
	return nil
}

// layOut makes the tree of the packages in the store, each of which is hashed first.
func (s *stepTools) layOut(ctx context.Context, dir string) error {
	if err := s.fetch(ctx, s.lock.Tools); err != nil {
		return err
	}
	repository := s.file("tools")
	if _, err := debian.WriteRepository(repository, s.config.store(), s.lock.Tools); err != nil {
		return err
	}
	err := debootstrap{
		program:    s.mmdebstrap,
		dir:        dir,
		packages:   toolPackages,
		repository: repository,
		dpkg:       []string{"path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*"},
		scratch:    s.work,
		epoch:      s.epoch,
	}.run(ctx)
	if err != nil {
		return fmt.Errorf("lay out the tools that make a disk: %w", err)
	}
	return nil
}

// unused is how long a tree may lie there that no build has used.
const unused = 30 * 24 * time.Hour

// removeUnused makes room: each update of a tool makes another tree.
func (b *bake) removeUnused(parent string) {
	trees, _ := filepath.Glob(filepath.Join(parent, suite+"-*")) // the pattern is well-formed
	for _, dir := range trees {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > unused {
			b.removeAll(dir)
		}
	}
}

// toolsDirectory names the tree by everything that it is made from.
func toolsDirectory(cache string, packages []lock.Package) string {
	sum := sha256.New()
	for _, p := range packages {
		fmt.Fprintln(sum, p.Name, p.Version, p.SHA256)
	}
	return filepath.Join(cache, "tools", suite+"-"+hex.EncodeToString(sum.Sum(nil)[:8]))
}

// Cleanup leaves the tools to the next build; cache itself removes a half-made tree.
func (s *stepTools) Cleanup(multistep.StateBag) {}
