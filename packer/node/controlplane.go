package node

import (
	"embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/mod/semver"
)

//go:embed control-plane-files
var controlPlaneFiles embed.FS

// componentsRoot is where `ovenbird serve` finds its components on an instance, laid out as
// components_dir is.
const componentsRoot = "/usr/lib/ovenbird/components"

// controlPlanePrograms are what runs beside each other for one cluster, of Kubernetes.
var controlPlanePrograms = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// controlPlane is what an image that can host control planes has beside a node's.
type controlPlane struct {
	kubernetes []string // versions, oldest first; nil: the image hosts none
	etcd       string
	coredns    string // which runs on nodes; the service goes by its version

	dir string
}

// findControlPlane finds every Kubernetes version of dir that is whole, and the newest etcd.
func findControlPlane(dir string) (controlPlane, error) {
	c := controlPlane{dir: dir}
	entries, err := os.ReadDir(filepath.Join(dir, "kubernetes"))
	if err != nil {
		return c, fmt.Errorf("components_dir: %w", err)
	}
	for _, entry := range entries {
		whole := !slices.ContainsFunc(controlPlanePrograms, func(name string) bool {
			return program("components_dir", filepath.Join(dir, "kubernetes", entry.Name(), name)) != nil
		})
		if semver.IsValid("v"+entry.Name()) && whole {
			c.kubernetes = append(c.kubernetes, entry.Name())
		}
	}
	if len(c.kubernetes) == 0 {
		return c, fmt.Errorf("ovenbird_path: no Kubernetes version in components_dir %s has kube-apiserver, kube-controller-manager and kube-scheduler", dir)
	}
	slices.SortFunc(c.kubernetes, func(a, b string) int { return semver.Compare("v"+a, "v"+b) })
	if c.etcd, err = newestVersion(filepath.Join(dir, "etcd")); err != nil {
		return c, err
	}
	if err := program("components_dir", filepath.Join(dir, "etcd", c.etcd, "etcd")); err != nil {
		return c, err
	}
	c.coredns, err = newestVersion(filepath.Join(dir, "coredns"))
	return c, err
}

// entries are what the image gets for it.
func (c controlPlane) entries(ovenbird string) ([]entry, error) {
	entries, err := embedded(controlPlaneFiles, "control-plane-files")
	if err != nil {
		return nil, err
	}
	entries = append(entries,
		entry{path: "/usr/bin/ovenbird", mode: 0o755, source: ovenbird},
		entry{path: path.Join(componentsRoot, "coredns", c.coredns), mode: 0o755},
		c.component("etcd", c.etcd, "etcd"))
	for _, version := range c.kubernetes {
		for _, name := range controlPlanePrograms {
			entries = append(entries, c.component("kubernetes", version, name))
		}
	}
	return entries, nil
}

func (c controlPlane) component(name, version, program string) entry {
	return entry{path: path.Join(componentsRoot, name, version, program), mode: 0o755, source: filepath.Join(c.dir, name, version, program)}
}
