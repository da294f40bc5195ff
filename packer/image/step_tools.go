package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// stepTools finds or makes the tree with the tools that make the disk. It is kept in
// the cache, by Debian release and package list, and shared by all builds.
type stepTools struct{ *bake }

// Run finds or makes the tools.
func (s *stepTools) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	dir := s.config.toolsDirectory()
	s.tools = tree.Tree{Dir: dir}
	if _, err := os.Stat(dir); err == nil {
		return multistep.ActionContinue
	}
	return s.step(state, "Laying out the tools that make a disk ("+strings.Join(toolPackages, ", ")+")", func() error {
		return s.make(ctx, dir)
	})
}

// make lays the tree out beside its place and renames it there. Builds that want it at
// the same time wait for the first; what a killed build has left is removed.
func (s *stepTools) make(ctx context.Context, dir string) error {
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
	partial := filepath.Join(parent, ".partial")
	s.removeAll(partial)
	defer s.removeAll(partial)
	err = debootstrap{
		program:  s.mmdebstrap,
		dir:      partial,
		packages: toolPackages,
		mirrors:  s.config.sources(),
		dpkg:     []string{"path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*"},
		archive:  s.config.archive(),
		scratch:  s.work,
	}.run(ctx)
	if err != nil {
		return fmt.Errorf("lay out the tools that make a disk: %w", err)
	}
	if err := os.Rename(partial, dir); err != nil {
		return fmt.Errorf("keep the tools: %w", err)
	}
	return nil
}

// toolsDirectory names the tree by everything that it is made from.
func (c *Config) toolsDirectory() string {
	sum := sha256.Sum256([]byte(suite + "\n" + strings.Join(toolPackages, "\n")))
	return filepath.Join(c.CacheDirectory, "tools", suite+"-"+hex.EncodeToString(sum[:6]))
}

// Cleanup leaves the tools to the next build; make itself removes a half-made tree.
func (s *stepTools) Cleanup(multistep.StateBag) {}
