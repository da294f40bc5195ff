package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// Where apt in the root keeps its lists and .debs while provisioners work: outside the
// root, so that what it knew is there at the end, whatever they have cleaned up.
const (
	aptTarget   = "/run/ovenbird"
	aptSettings = "etc/apt/apt.conf.d/99ovenbird-bake"
	aptSources  = "etc/apt/sources.list"
)

// openArchives gives provisioners the archives of Debian to install from, or, with a
// lock, the packages of the lock and no others.
func (b *bake) openArchives() error {
	apt := b.file(aptDirectory)
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(apt, dir), 0o755); err != nil { //nolint:gosec // apt reads it as its own user
			return fmt.Errorf("set up apt for provisioners: %w", err)
		}
	}
	settings := fmt.Sprintf("Dir::State::Lists %q;\nDir::Cache::Archives %q;\nAPT::Sandbox::User \"root\";\n", aptTarget+"/lists", aptTarget+"/archives")
	if b.config.locked != nil {
		settings += fmt.Sprintf("Dir::Etc::SourceList %q;\nDir::Etc::SourceParts \"/dev/null\";\n", aptTarget+"/sources.list")
		line := flatSource(aptTarget+"/"+repositoryName) + "\n"
		if err := os.WriteFile(filepath.Join(apt, "sources.list"), []byte(line), 0o644); err != nil { //nolint:gosec // no secret
			return fmt.Errorf("set up apt for provisioners: %w", err)
		}
	}
	lines := strings.Join(sources(b.config.archives()), "\n") + "\n"
	for name, content := range map[string]string{aptSettings: settings, aptSources: lines} {
		path := filepath.Join(b.root.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as on any system
			return fmt.Errorf("set up apt for provisioners: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // as on any system
			return fmt.Errorf("set up apt for provisioners: %w", err)
		}
	}
	b.root.Binds = []tree.Bind{{Source: apt, Target: aptTarget}}
	return nil
}

// closeArchives leaves the node with the addresses of Debian's archives, also where a
// mirror stood in for them.
func (b *bake) closeArchives() error {
	b.root.Binds = nil
	if err := os.Remove(filepath.Join(b.root.Dir, aptSettings)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the bake's archives out of the root file system: %w", err)
	}
	name := filepath.Join(b.root.Dir, aptSources)
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a provisioner's choice
	}
	if err != nil {
		return fmt.Errorf("take the bake's archives out of the root file system: %w", err)
	}
	used := b.config.archives()
	text := strings.NewReplacer(" "+used[debian.Main]+" ", " "+debianArchive+" ", " "+used[debian.Security]+" ", " "+securityArchive+" ").Replace(string(content))
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil { //nolint:gosec // as on any system
		return fmt.Errorf("take the bake's archives out of the root file system: %w", err)
	}
	return nil
}

// survey finds out which packages the provisioners have installed, replaced and removed,
// while apt's lists and dpkg's log are there.
func (b *bake) survey(ctx context.Context) error {
	installed, err := readInstalled(b.root.Dir)
	if err != nil {
		return fmt.Errorf("list what the provisioners have installed: %w", err)
	}
	unpacked, err := readLogged(b.root.Dir)
	if err != nil {
		return fmt.Errorf("list what the provisioners have installed: %w", err)
	}
	machine := map[debian.Key]bool{}
	for _, p := range b.lock.Machine {
		machine[debian.KeyOf(p)] = true
	}
	provisioned := map[debian.Key]lock.Package{}
	for _, p := range installed {
		if !machine[debian.KeyOf(p)] {
			provisioned[debian.KeyOf(p)] = p
		}
	}
	for _, key := range unpacked {
		if _, known := provisioned[key]; !known && !machine[key] {
			provisioned[key] = lock.Package{Name: key.Name, Version: key.Version, Architecture: key.Architecture}
		}
	}
	if b.lock.Provisioned, err = b.origins(ctx, provisioned); err != nil {
		return fmt.Errorf("find where the provisioners' packages are from: %w", err)
	}
	there := map[string]bool{}
	for _, p := range installed {
		there[p.Name] = true
	}
	for _, p := range slices.Concat(b.lock.Machine, b.lock.Provisioned) {
		if !there[p.Name] && !slices.Contains(b.lock.Removed, p.Name) {
			b.lock.Removed = append(b.lock.Removed, p.Name)
		}
	}
	return nil
}

// origins adds to packages where they can be fetched, and keeps those that apt has
// fetched for a bake from the lock. A package that no archive has stays as it is.
func (b *bake) origins(ctx context.Context, packages map[debian.Key]lock.Package) ([]lock.Package, error) {
	if len(packages) == 0 {
		return nil, nil
	}
	var wanted []debian.Key
	for key := range packages {
		wanted = append(wanted, key)
	}
	found := map[debian.Key]lock.Package{}
	if b.config.locked != nil {
		// The archive that apt has seen is made of the lock's own entries.
		for _, p := range b.config.locked.Provisioned {
			found[debian.KeyOf(p)] = p
		}
	} else {
		var err error
		inRoot := func(ctx context.Context, name string, args ...string) *exec.Cmd {
			return b.root.Command(ctx, nil, name, args...)
		}
		if found, err = b.apt.Lookup(ctx, inRoot, wanted); err != nil {
			return nil, err
		}
	}
	list := make([]lock.Package, 0, len(packages))
	var archived []lock.Package
	for key, p := range packages {
		if q, ok := found[key]; ok {
			p = q
		}
		if p.SHA256 != "" {
			b.keep(p)
			archived = append(archived, p)
		}
		list = append(list, p)
	}
	// What provisioners have cleaned up is still in the archive now, and may not be when
	// somebody bakes from the lock.
	if err := b.fetch(ctx, archived); err != nil {
		b.ui.Say("A bake from the lock will have to fetch packages that are not kept: " + err.Error())
	}
	return list, nil
}

// keep moves what apt has fetched into the store, if it is what it should be.
func (b *bake) keep(p lock.Package) {
	name := fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Architecture)
	file := b.file(filepath.Join(aptDirectory, "archives", name))
	if _, err := os.Stat(file); err != nil {
		return
	}
	if err := b.config.store().Adopt(file, p); err != nil {
		b.ui.Say(err.Error())
	}
}

func readInstalled(root string) ([]lock.Package, error) {
	f, err := os.Open(filepath.Join(root, "var/lib/dpkg/status"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return debian.Installed(f)
}

// readLogged lists what dpkg has unpacked since the root file system was laid out.
func readLogged(root string) ([]debian.Key, error) {
	f, err := os.Open(filepath.Join(root, "var/log/dpkg.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return debian.Logged(f)
}
