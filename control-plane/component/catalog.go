package component

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/util/version"
)

// Release is one Kubernetes version with what goes beside it, and where the programs are.
type Release struct {
	Kubernetes    string // "1.37.2"
	Etcd          string
	CoreDNS       string
	KubernetesDir string
	EtcdDir       string
}

// Catalog is a directory of components, NAME/VERSION/PROGRAM, as `make components` fills it.
// The Kubernetes versions in it are the versions on offer.
type Catalog struct {
	dir string
}

// ErrNotOffered says that no component of the wanted version is there.
var ErrNotOffered = errors.New("version is not offered")

// OpenCatalog checks that dir holds at least one complete release.
func OpenCatalog(dir string) (Catalog, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Catalog{}, fmt.Errorf("find components: %w", err)
	}
	c := Catalog{dir}
	minors, err := c.Minors()
	if err != nil {
		return Catalog{}, err
	}
	if len(minors) == 0 {
		return Catalog{}, fmt.Errorf("no Kubernetes components in %s: run `make components`, or name the directory with --components", dir)
	}
	_, err = c.Newest(minors[0])
	return c, err
}

// Minors returns the minor versions on offer, newest first.
func (c Catalog) Minors() ([]string, error) {
	patches, err := c.versions("kubernetes", APIServer, ControllerManager, Scheduler)
	if err != nil {
		return nil, err
	}
	var minors []string
	for _, patch := range patches {
		if m := minor(patch); !slices.Contains(minors, m) {
			minors = append(minors, m)
		}
	}
	return minors, nil
}

// Newest returns the newest patch of a minor version ("1.37"), or ErrNotOffered.
func (c Catalog) Newest(wanted string) (Release, error) {
	return c.release(func(v *version.Version) bool { return minor(v) == wanted }, wanted)
}

// Exactly returns a patch version ("1.37.2"), or ErrNotOffered.
func (c Catalog) Exactly(wanted string) (Release, error) {
	return c.release(func(v *version.Version) bool { return v.String() == wanted }, wanted)
}

func (c Catalog) release(match func(*version.Version) bool, wanted string) (Release, error) {
	kubernetes, err := c.versions("kubernetes", APIServer, ControllerManager, Scheduler)
	if err != nil {
		return Release{}, err
	}
	i := slices.IndexFunc(kubernetes, match)
	if i < 0 {
		return Release{}, fmt.Errorf("%w: %s has no components in %s", ErrNotOffered, wanted, c.dir)
	}
	etcd, err := c.versions("etcd", "etcd")
	if err != nil {
		return Release{}, err
	}
	// CoreDNS runs from the node image; here only its version matters.
	coredns, err := c.versions("coredns")
	if err != nil {
		return Release{}, err
	}
	if len(etcd) == 0 || len(coredns) == 0 {
		return Release{}, fmt.Errorf("etcd or coredns is missing in %s: run `make components`", c.dir)
	}
	r := Release{Kubernetes: kubernetes[i].String(), Etcd: etcd[0].String(), CoreDNS: coredns[0].String()}
	// Links are followed so that a component built anew is a changed description.
	if r.KubernetesDir, err = filepath.EvalSymlinks(filepath.Join(c.dir, "kubernetes", r.Kubernetes)); err != nil {
		return Release{}, fmt.Errorf("find kubernetes %s: %w", r.Kubernetes, err)
	}
	if r.EtcdDir, err = filepath.EvalSymlinks(filepath.Join(c.dir, "etcd", r.Etcd)); err != nil {
		return Release{}, fmt.Errorf("find etcd %s: %w", r.Etcd, err)
	}
	return r, nil
}

// versions lists the versions of name that have all the given programs, newest first.
func (c Catalog) versions(name string, programs ...string) ([]*version.Version, error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list components: %w", err)
	}
	var found []*version.Version
	for _, entry := range entries {
		v, err := version.ParseSemantic(entry.Name())
		if err != nil || !hasAll(filepath.Join(c.dir, name, entry.Name()), programs) {
			continue
		}
		found = append(found, v)
	}
	slices.SortFunc(found, func(a, b *version.Version) int {
		switch {
		case a.LessThan(b):
			return 1
		case b.LessThan(a):
			return -1
		}
		return 0
	})
	return found, nil
}

func hasAll(dir string, programs []string) bool {
	for _, program := range programs {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

func minor(v *version.Version) string { return fmt.Sprintf("%d.%d", v.Major(), v.Minor()) }
