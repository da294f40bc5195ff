package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/semver"
)

// release is which version of each component a node gets, and where it lies on the
// machine that builds. As JSON it is the node's /etc/ovenbird/release.json.
type release struct {
	Kubernetes string `json:"kubernetes"`
	Containerd string `json:"containerd"`
	Runc       string `json:"runc"`
	CNIPlugins string `json:"cniPlugins"`
	CoreDNS    string `json:"coredns"`
	// PauseImage is the sandbox image that the agent names to containerd.
	PauseImage string `json:"pauseImage"`

	dir string
}

// programs are what a node needs of each component.
var programs = map[string][]string{
	"kubernetes":  {"kubelet", "kube-proxy", "pause"},
	"containerd":  {"containerd", "containerd-shim-runc-v2", "ctr"},
	"runc":        {"runc"},
	"cni-plugins": {"bridge", "host-local", "loopback", "portmap"},
	"coredns":     {"coredns"},
}

// findRelease finds the components of a node in dir.
func findRelease(dir, kubernetes string) (release, error) {
	r := release{Kubernetes: kubernetes, PauseImage: imagePrefix + "pause:" + kubernetes, dir: dir}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return r, fmt.Errorf("components_dir: there is no directory %s", dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "kubernetes", kubernetes)); err != nil {
		return r, fmt.Errorf("kubernetes_version: there is no Kubernetes %s in components_dir %s", kubernetes, dir)
	}
	for component, version := range map[string]*string{
		"containerd": &r.Containerd, "runc": &r.Runc, "cni-plugins": &r.CNIPlugins, "coredns": &r.CoreDNS,
	} {
		newest, err := newestVersion(filepath.Join(dir, component))
		if err != nil {
			return r, err
		}
		*version = newest
	}
	for component, names := range programs {
		for _, name := range names {
			if err := program("components_dir", r.path(component, name)); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// newestVersion is the highest of the versions that dir has a directory of.
func newestVersion(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("components_dir: there is no directory %s", dir)
	}
	newest := ""
	for _, entry := range entries {
		if v := "v" + entry.Name(); semver.IsValid(v) && semver.Compare(v, newest) > 0 {
			newest = v
		}
	}
	if newest == "" {
		return "", fmt.Errorf("components_dir: there is no version in %s", dir)
	}
	return newest[1:], nil
}

// version is a component's.
func (r release) version(component string) string {
	return map[string]string{
		"kubernetes": r.Kubernetes, "containerd": r.Containerd, "runc": r.Runc,
		"cni-plugins": r.CNIPlugins, "coredns": r.CoreDNS,
	}[component]
}

// path is where a component's program lies on the machine that builds.
func (r release) path(component, program string) string {
	return filepath.Join(r.dir, component, r.version(component), program)
}

// file is the node's /etc/ovenbird/release.json.
func (r release) file() ([]byte, error) {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write release.json: %w", err)
	}
	return append(content, '\n'), nil
}
