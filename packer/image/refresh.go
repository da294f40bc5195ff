package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/release"
)

// RefreshCommand is `ovenbird-image refresh`: what a lock would say today.
func RefreshCommand(program string) *cobra.Command {
	var c Config
	var write bool
	cmd := &cobra.Command{
		Use:   "refresh LOCK",
		Short: "Show what has changed since a lock was written, and bring it up to date",
		Long: `Chooses the packages of a lock anew, as a bake without it would, and prints each that
was added, removed or has another version, and the components that this plugin pins in
other versions. With --write the lock is replaced. The next bake from it may then bring
other components and container images than the last; it writes a whole lock again.`,
		Example: fmt.Sprintf("  %[1]s refresh .ovenbird/image/ovenbird.lock.json\n  %[1]s refresh --write ovenbird.lock.json", program),
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&write, "write", false, "replace the lock")
	cmd.Flags().StringVar(&c.Mirror, "mirror", "", "the Debian archive; goes with --security-mirror (default Debian's own)")
	cmd.Flags().StringVar(&c.SecurityMirror, "security-mirror", "", "the Debian security archive; goes with --mirror")
	cmd.Flags().StringVar(&c.CacheDirectory, "cache-directory", "", "where packages are kept (default ovenbird in the user's cache)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(c.prepareSources(), c.prepareCache()); err != nil {
			return cli.Usage(err)
		}
		old, err := lock.Read(args[0])
		if err != nil {
			return err
		}
		say := func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
		dir, err := os.MkdirTemp("", "ovenbird-refresh-")
		if err != nil {
			return fmt.Errorf("make a directory to work in: %w", err)
		}
		defer os.RemoveAll(dir)
		fresh, err := c.refresh(cmd.Context(), c.apt(dir), old, say)
		if err != nil {
			return fmt.Errorf("refresh %s: %w", args[0], err)
		}
		changes := lock.Diff(old, fresh)
		if len(changes) == 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "nothing has changed")
			return nil
		}
		fmt.Fprintln(cmd.OutOrStdout(), strings.Join(changes, "\n"))
		if !write {
			return nil
		}
		return replaceLock(args[0], fresh)
	}
	return cmd
}

// refresh is what the lock would say today. Its packages are in the store afterwards.
func (c *Config) refresh(ctx context.Context, apt debian.Apt, old lock.Lock, say func(string)) (fresh lock.Lock, err error) {
	if err := apt.Update(ctx); err != nil {
		return lock.Lock{}, err
	}
	fresh = old
	fresh.Plugin, fresh.Refreshed = plugin(), true
	names := slices.Concat(machinePackages, old.Options.ExtraPackages)
	if fresh.Machine, err = apt.Resolve(ctx, names); err != nil {
		return lock.Lock{}, err
	}
	if fresh.Tools, err = apt.Resolve(ctx, toolPackages); err != nil {
		return lock.Lock{}, err
	}
	if fresh.Provisioned, err = refreshProvisioned(ctx, apt, names, old.Provisioned, fresh.Machine); err != nil {
		return lock.Lock{}, err
	}
	fresh.Removed = slices.DeleteFunc(slices.Clone(old.Removed), func(name string) bool {
		return !slices.ContainsFunc(slices.Concat(fresh.Machine, fresh.Provisioned), func(p lock.Package) bool { return p.Name == name })
	})
	if fresh.Components, err = refreshComponents(old.Components); err != nil {
		return lock.Lock{}, err
	}
	if err := apt.Fetch(ctx, c.store(), slices.Concat(fresh.Machine, fresh.Tools), say); err != nil {
		return lock.Lock{}, err
	}
	fresh.Epoch, err = debian.WriteRepository(filepath.Join(apt.Dir, machineRepository), c.store(), fresh.Machine)
	return fresh, err
}

// refreshProvisioned chooses the provisioners' packages anew. Those of archives that the
// provisioners have added themselves stay as they are: only a bake knows those.
func refreshProvisioned(ctx context.Context, apt debian.Apt, names []string, old, machine []lock.Package) ([]lock.Package, error) {
	var fresh []lock.Package
	names = slices.Clone(names)
	for _, p := range old {
		if p.Archive == debian.Main || p.Archive == debian.Security {
			names = append(names, p.Name)
		} else {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) == len(old) {
		return fresh, nil
	}
	all, err := apt.Resolve(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if !slices.Contains(machine, p) {
			fresh = append(fresh, p)
		}
	}
	return fresh, nil
}

// refreshComponents takes the versions that this plugin pins, of Kubernetes the newest
// of the lock's minor. Programs of another version are not known before they are built.
func refreshComponents(old []lock.Component) ([]lock.Component, error) {
	releases, err := release.Releases()
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(old, func(c lock.Component) bool { return c.Name == "kubernetes" })
	if at < 0 {
		return old, nil
	}
	r := slices.IndexFunc(releases, func(r release.Release) bool { return r.Minor() == release.Minor(old[at].Version) })
	if r < 0 {
		return old, nil
	}
	fresh := slices.Clone(old)
	for n, c := range fresh {
		for _, pinned := range releases[r].Components {
			if pinned.Name == c.Name && pinned.Version != c.Version {
				fresh[n] = lock.Component{Name: c.Name, Version: pinned.Version}
			}
		}
	}
	return fresh, nil
}

// replaceLock writes a lock whole or not at all.
func replaceLock(name string, l lock.Lock) error {
	text, err := l.Encode()
	if err != nil {
		return err
	}
	if _, err := lock.Decode(text); err != nil {
		return fmt.Errorf("the new lock is not usable: %w", err)
	}
	partial := name + ".new"
	if err := os.WriteFile(partial, text, 0o644); err != nil { //nolint:gosec // a lock holds no secret
		return fmt.Errorf("write the lock: %w", err)
	}
	if err := syncFile(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, name); err != nil {
		return fmt.Errorf("write the lock: %w", err)
	}
	return nil
}
