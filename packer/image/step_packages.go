package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// Directories of the work directory.
const (
	machineRepository = "machine" // the packages that the root file system is laid out from
	aptDirectory      = "apt"     // what apt in the root sees at aptTarget
	repositoryName    = "repository"
)

// stepPackages decides the version of each Debian package before anything is installed:
// those of the lock, or without one the newest that there are. Their .debs are in the
// store when it ends. From here on the image has its date.
type stepPackages struct{ *bake }

// Run decides and fetches.
func (s *stepPackages) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	s.apt = s.config.apt(s.file("resolve"))
	what := "Choosing the newest Debian packages"
	if s.config.locked != nil {
		what = "Taking the packages of " + s.config.LockFile
	}
	return s.step(state, what, func() error {
		s.lock = lock.Lock{
			Suite: suite, Architecture: architecture,
			Options: s.config.lockOptions(), Plugin: plugin(),
		}
		if s.config.locked != nil {
			if err := s.take(ctx, *s.config.locked); err != nil {
				return fmt.Errorf("bake from %s: %w", s.config.LockFile, err)
			}
			return nil
		}
		return s.choose(ctx)
	})
}

// apt is the machine's apt at work in dir.
func (c *Config) apt(dir string) debian.Apt {
	return debian.Apt{
		Dir: dir, Sources: sources(c.archives()), Architecture: architecture,
		Archives: c.archives(), Environment: tree.Environment(time.Time{}),
	}
}

// plugin is this program.
func plugin() lock.Plugin {
	v := cli.BuildVersion()
	return lock.Plugin{Version: v.Release, Commit: v.Commit}
}

// lockOptions are the choices of the template that decide bytes.
func (c *Config) lockOptions() lock.Options {
	return lock.Options{
		DiskSize: c.diskBytes, RootFilesystem: c.RootFilesystem,
		KernelArguments: c.KernelArguments, ExtraPackages: c.ExtraPackages,
		SecureBootSHA256: c.secureBootSHA256,
	}
}

// choose takes the newest packages.
func (s *stepPackages) choose(ctx context.Context) (err error) {
	if err := s.apt.Update(ctx); err != nil {
		return err
	}
	if s.lock.Machine, err = s.apt.Resolve(ctx, slices.Concat(machinePackages, s.config.ExtraPackages)); err != nil {
		return err
	}
	if s.lock.Tools, err = s.apt.Resolve(ctx, toolPackages); err != nil {
		return err
	}
	return s.fetchMachine(ctx)
}

// take takes the packages of the lock, after comparing what the template says with it.
func (s *stepPackages) take(ctx context.Context, locked lock.Lock) error {
	same := locked
	same.Suite, same.Architecture, same.Options, same.Plugin = s.lock.Suite, s.lock.Architecture, s.lock.Options, s.lock.Plugin
	if changes := lock.Diff(locked, same); len(changes) > 0 {
		return fmt.Errorf("this is not the template or the plugin that it was made with:\n%s", strings.Join(changes, "\n"))
	}
	s.lock.Machine, s.lock.Tools = locked.Machine, locked.Tools
	if err := s.fetchMachine(ctx); err != nil {
		return err
	}
	if !s.epoch.Equal(locked.Epoch) {
		return fmt.Errorf("its packages are of %s, its epoch is %s", s.epoch.Format(time.RFC3339), locked.Epoch.Format(time.RFC3339))
	}
	// What a provisioner installs takes the place of the machine's package of that name.
	var archived []lock.Package
	for _, p := range locked.Provisioned {
		if p.SHA256 != "" { // the rest the provisioners bring themselves
			archived = append(archived, p)
		}
	}
	for _, p := range locked.Machine {
		if !slices.ContainsFunc(archived, func(q lock.Package) bool { return q.Name == p.Name && q.Architecture == p.Architecture }) {
			archived = append(archived, p)
		}
	}
	if err := s.fetch(ctx, archived); err != nil {
		return err
	}
	_, err := debian.WriteRepository(s.file(filepath.Join(aptDirectory, repositoryName)), s.config.store(), archived)
	return err
}

// fetchMachine readies the archive that the root file system is laid out from.
func (s *stepPackages) fetchMachine(ctx context.Context) (err error) {
	if err := s.fetch(ctx, s.lock.Machine); err != nil {
		return err
	}
	s.epoch, err = debian.WriteRepository(s.file(machineRepository), s.config.store(), s.lock.Machine)
	s.lock.Epoch = s.epoch
	return err
}

// fetch brings packages into the store.
func (b *bake) fetch(ctx context.Context, packages []lock.Package) error {
	err := b.apt.Fetch(ctx, b.config.store(), packages, b.ui.Say)
	if errors.Is(err, debian.ErrVanished) && b.config.locked != nil {
		return fmt.Errorf("%w\nDebian keeps only the newest version of a package; `ovenbird-image refresh %s` shows what has come in its place",
			err, b.config.LockFile)
	}
	return err
}

// Cleanup leaves the packages to the next build.
func (s *stepPackages) Cleanup(multistep.StateBag) {}
