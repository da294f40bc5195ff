package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// helper is the program of package apt that fetches single files, and compares them with
// their hashes.
const helper = "/usr/lib/apt/apt-helper"

const fetchTimeout = time.Hour // apt gives up on a server that is silent after 30 s

// ErrVanished means that an archive no longer has a version that a lock names.
var ErrVanished = errors.New("the archive no longer has it")

// Fetch brings packages into the store. What the store has already is hashed, not
// fetched; say hears of files there that were damaged. Every package that cannot be
// fetched is named in the error.
func (a Apt) Fetch(ctx context.Context, store Store, packages []lock.Package, say func(string)) error {
	missing, damaged, err := store.Missing(ctx, once(packages))
	if err != nil {
		return err
	}
	for _, file := range damaged {
		say("A kept package was damaged and is fetched again: " + file)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := os.MkdirAll(store.Dir, 0o755); err != nil { //nolint:gosec // packages are no secret
		return fmt.Errorf("fetch packages: %w", err)
	}
	store.removeStale()
	partial, err := os.MkdirTemp(store.Dir, partialPrefix)
	if err != nil {
		return fmt.Errorf("fetch packages: %w", err)
	}
	defer os.RemoveAll(partial)
	if err := a.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	args := []string{"-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "-q", "download-file"}
	for _, p := range missing {
		args = append(args, a.Archives.address(p), filepath.Join(partial, p.SHA256), "SHA256:"+p.SHA256)
	}
	_, fetchErr := a.run(a.command(ctx, helper, args...))
	if ctx.Err() != nil {
		return fmt.Errorf("fetch packages: %w", context.Cause(ctx))
	}
	var errs []error
	for _, p := range missing {
		file := filepath.Join(partial, p.SHA256)
		if _, err := os.Stat(file); err != nil {
			errs = append(errs, fmt.Errorf("fetch %s from %s: %w", KeyOf(p), a.Archives.address(p), a.failure(p, fetchErr)))
			continue
		}
		errs = append(errs, store.Adopt(file, p))
	}
	return errors.Join(errs...)
}

// once leaves out what is there twice: the machine and the tools share packages.
func once(packages []lock.Package) []lock.Package {
	seen := map[string]bool{}
	var list []lock.Package
	for _, p := range packages {
		if !seen[p.SHA256] {
			seen[p.SHA256] = true
			list = append(list, p)
		}
	}
	return list
}

// failure is what apt said about a package that it could not fetch.
func (a Apt) failure(p lock.Package, err error) error {
	if err == nil {
		return errors.New("apt wrote no file")
	}
	address := a.Archives.address(p)
	lines := strings.Split(err.Error(), "\n")
	for _, line := range lines {
		_, said, ok := strings.Cut(line, "Failed to fetch "+address)
		switch said = strings.TrimSpace(said); {
		case !ok:
		case strings.HasPrefix(said, "404"):
			return ErrVanished
		case strings.HasPrefix(said, "Hash Sum mismatch"):
			return fmt.Errorf("what the archive has is not the .deb of SHA-256 %s", p.SHA256)
		default:
			return errors.New(said)
		}
	}
	return err
}
