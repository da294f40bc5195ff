// Package release is the Packer data source ovenbird-release. It answers which upstream
// components a node of some Kubernetes version is made of: the versions that this plugin
// was released with, each with the hash by which Go's checksum database knows its source.
// It asks no network: the answer is in the plugin.
package release

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Component is an upstream project at a version.
type Component struct {
	Name    string `json:"name"`    // as in components/ and components_dir
	Version string `json:"version"` // without a v
	Module  string `json:"module"`  // the Go module that it is built from
	Hash    string `json:"hash"`    // of the module's source, as in go.sum: h1:...
}

// pinned is what components/ pins. Those folders are Go modules of their own, into
// which go:embed does not reach; a test holds this file to them.
//
//go:embed pins.json
var pinned []byte

// onNode are the components of a node beside Kubernetes; the others are a control
// plane's or a build machine's.
var onNode = []string{"containerd", "runc", "cni-plugins", "coredns"}

// stable is the channel of the newest Kubernetes there is.
const stable = "stable"

// Release is what a node of one Kubernetes version is made of.
type Release struct {
	Kubernetes Component
	Components []Component // all of them, Kubernetes first
}

// Minor is the Kubernetes minor, which is a channel too.
func (r Release) Minor() string { return Minor(r.Kubernetes.Version) }

// Minor is 1.37 for 1.37.2.
func Minor(version string) string {
	return strings.TrimPrefix(semver.MajorMinor("v"+version), "v")
}

// Releases are all that this plugin knows, the newest Kubernetes first.
func Releases() ([]Release, error) {
	var components []Component
	if err := json.Unmarshal(pinned, &components); err != nil {
		return nil, fmt.Errorf("read the pinned components: %w", err)
	}
	var common []Component
	for _, name := range onNode {
		at := slices.IndexFunc(components, func(c Component) bool { return c.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("read the pinned components: there is no %s", name)
		}
		common = append(common, components[at])
	}
	var releases []Release
	for _, c := range components {
		if c.Name == "kubernetes" {
			releases = append(releases, Release{Kubernetes: c, Components: append([]Component{c}, common...)})
		}
	}
	slices.SortFunc(releases, func(a, b Release) int {
		return semver.Compare("v"+b.Kubernetes.Version, "v"+a.Kubernetes.Version)
	})
	return releases, nil
}

// find picks a release by its full Kubernetes version or by a channel; neither means stable.
func find(releases []Release, version, channel string) (Release, error) {
	if version != "" && channel != "" {
		return Release{}, fmt.Errorf("kubernetes_version, channel: set one of the two: version %s, or the newest of channel %s", version, channel)
	}
	for _, r := range releases { // the newest first
		switch {
		case version != "" && r.Kubernetes.Version == version:
			return r, nil
		case version == "" && (channel == "" || channel == stable || channel == r.Minor()):
			return r, nil
		}
	}
	if version != "" {
		return Release{}, fmt.Errorf("kubernetes_version: this plugin pins no Kubernetes %q; there is %s", version, offer(releases))
	}
	return Release{}, fmt.Errorf("channel: there is no channel %q; there is %s", channel, offer(releases))
}

// offer lists what there is to choose from.
func offer(releases []Release) string {
	var versions, channels []string
	for _, r := range releases {
		versions = append(versions, r.Kubernetes.Version)
		if !slices.Contains(channels, r.Minor()) {
			channels = append(channels, r.Minor())
		}
	}
	return fmt.Sprintf("version %s, channel %s", strings.Join(versions, ", "), strings.Join(append([]string{stable}, channels...), ", "))
}
