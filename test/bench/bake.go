package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// measureBake times `packer build` of the published template from built components, with
// the packages and the tools in the cache, and once with that cache empty.
func measureBake(ctx context.Context) ([]Entry, error) {
	dir, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cache := filepath.Join(dir, "cache")
	// The first run fills the cache.
	var seconds []float64
	for run := range bakeRuns + 1 {
		began := time.Now()
		cmd := exec.CommandContext(ctx, "scripts/packer", "build", "-color=false", "-force", "-var", "output="+filepath.Join(dir, "image"), "packer/templates/node.pkr.hcl")
		cmd.Env = append(os.Environ(), "OVENBIRD_CACHE="+cache)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("bake: %w\n%s", err, out)
		}
		seconds = append(seconds, time.Since(began).Seconds())
		fmt.Fprintf(os.Stderr, "bake %d: %.1f s\n", run+1, seconds[run])
	}
	return []Entry{compared("bake", "s", "empty cache", seconds[1:], seconds[:1])}, nil
}
