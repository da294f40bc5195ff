package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// releaseFile says of a node which version of each component it has; ovenbird-node
// writes it.
const releaseFile = "etc/ovenbird/release.json"

// componentPrograms are the programs of each component, by its name in releaseFile: on
// the node, or, without a leading /, in the layers of the container images.
var componentPrograms = []struct {
	name, key string
	programs  []string
}{
	{"kubernetes", "kubernetes", []string{"/usr/bin/kubelet", "usr/local/bin/kube-proxy", "pause"}},
	{"containerd", "containerd", []string{"/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2", "/usr/bin/ctr"}},
	{"runc", "runc", []string{"/usr/bin/runc"}},
	{"cni-plugins", "cniPlugins", []string{"/opt/cni/bin/bridge", "/opt/cni/bin/host-local", "/opt/cni/bin/loopback", "/opt/cni/bin/portmap"}},
	{"coredns", "coredns", []string{"coredns"}},
	{"ovenbird-agent", "", []string{"/usr/bin/ovenbird-agent"}},
}

// components lists what of upstream and of Ovenbird is in the root. A root that no
// ovenbird-node has worked on has nothing.
func components(ctx context.Context, root tree.Tree) ([]lock.Component, error) {
	content, err := os.ReadFile(filepath.Join(root.Dir, releaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the components: %w", err)
	}
	versions := map[string]string{}
	if err := json.Unmarshal(content, &versions); err != nil {
		return nil, fmt.Errorf("list the components: /%s: %w", releaseFile, err)
	}
	var list []lock.Component
	for _, c := range componentPrograms {
		component := lock.Component{Name: c.name, Version: versions[c.key]}
		for _, name := range c.programs {
			program, err := findProgram(root.Dir, name)
			if err != nil {
				return nil, fmt.Errorf("list the components: %s: %w", c.name, err)
			}
			component.Programs = append(component.Programs, program)
		}
		if c.key == "" {
			if component.Version, err = stampedVersion(ctx, root, c.programs[0]); err != nil {
				return nil, fmt.Errorf("list the components: %s: %w", c.name, err)
			}
		}
		list = append(list, component)
	}
	return list, nil
}

// findProgram hashes a program of the node or of a layer. Images that a template brings
// may have a program of that name too: ovenbird-node's come first in its archive, and
// containerd numbers layers as it unpacks them.
func findProgram(root, name string) (lock.Program, error) {
	file, place := filepath.Join(root, name), name
	if !path.IsAbs(name) {
		found, err := filepath.Glob(filepath.Join(root, snapshots, "*/fs", name))
		if err != nil {
			return lock.Program{}, err
		}
		if len(found) == 0 {
			return lock.Program{}, fmt.Errorf("no container image has the program /%s", name)
		}
		number := func(file string) int {
			id, _, _ := strings.Cut(strings.TrimPrefix(file, filepath.Join(root, snapshots)+"/"), "/")
			n, _ := strconv.Atoi(id) // the snapshotter has no other names
			return n
		}
		file, place = slices.MinFunc(found, func(a, b string) int { return number(a) - number(b) }), ""
	}
	f, err := os.Open(file)
	if err != nil {
		return lock.Program{}, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return lock.Program{}, fmt.Errorf("hash %s: %w", name, err)
	}
	return lock.Program{Name: path.Base(name), Path: place, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

const versionTimeout = time.Minute

// stampedVersion asks one of Ovenbird's own programs what it was built from.
func stampedVersion(ctx context.Context, root tree.Tree, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	var said bytes.Buffer
	cmd := root.Command(ctx, nil, name, "version", "--output", "json")
	cmd.Stdout = &said
	if err := run(ctx, cmd, name+" version"); err != nil {
		return "", err
	}
	var v cli.Version
	if err := json.Unmarshal(said.Bytes(), &v); err != nil {
		return "", fmt.Errorf("%s version: %w", name, err)
	}
	return v.Release + "+" + v.Commit, nil
}
