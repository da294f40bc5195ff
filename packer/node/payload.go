package node

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed files
var nodeFiles embed.FS

// entry is one file or directory of a node.
type entry struct {
	path    string // absolute, on the node
	mode    int64
	source  string // a file of the machine that builds, or
	content []byte // the content itself; neither: a directory
}

// directories are what the agent and kubelet expect to exist.
var directories = []entry{
	{path: "/etc/cni/net.d", mode: 0o755},
	{path: "/etc/containerd/certs.d", mode: 0o755},
	{path: "/etc/containerd/conf.d", mode: 0o755},
	{path: "/etc/eks/image-credential-provider", mode: 0o755},
	{path: "/etc/eks/kubelet", mode: 0o755},
	{path: "/etc/kubernetes/kubelet/config.json.d", mode: 0o755},
	{path: "/etc/kubernetes/pki", mode: 0o755},
	{path: "/var/lib/kubelet", mode: 0o750},
}

// nodeEntries lists everything that is installed on a node but its container images.
func (c *Config) nodeEntries() ([]entry, error) {
	entries, err := embedded(nodeFiles, "files")
	if err != nil {
		return nil, err
	}
	entries = append(entries, directories...)
	if c.OvenbirdPath != "" {
		more, err := c.control.entries(c.OvenbirdPath)
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	release, err := c.release.file()
	if err != nil {
		return nil, err
	}
	entries = append(entries,
		entry{path: "/etc/ovenbird/release.json", mode: 0o644, content: release},
		entry{path: "/usr/bin/ovenbird-agent", mode: 0o755, source: c.AgentPath},
		entry{path: "/usr/bin/kubelet", mode: 0o755, source: c.release.path("kubernetes", "kubelet")},
	)
	for component, dir := range map[string]string{"containerd": "/usr/bin", "runc": "/usr/bin", "cni-plugins": "/opt/cni/bin"} {
		for _, name := range programs[component] {
			entries = append(entries, entry{path: path.Join(dir, name), mode: 0o755, source: c.release.path(component, name)})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return entries, nil
}

// embedded lists the files that come with this program below dir.
func embedded(files embed.FS, dir string) ([]entry, error) {
	var entries []entry
	err := fs.WalkDir(files, dir, func(name string, file fs.DirEntry, err error) error {
		if err != nil || file.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		entries = append(entries, entry{path: strings.TrimPrefix(name, dir), mode: 0o644, content: content})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the node's files: %w", err)
	}
	return entries, nil
}

// writePayload writes entries as a tar, each after the directories that only it needs.
func writePayload(w io.Writer, entries []entry) error {
	archive := tar.NewWriter(w)
	for _, e := range entries {
		if err := e.write(archive); err != nil {
			return fmt.Errorf("pack %s: %w", e.path, err)
		}
	}
	return archive.Close()
}

func (e entry) write(archive *tar.Writer) error {
	header := &tar.Header{
		Name:     strings.TrimPrefix(e.path, "/"),
		Mode:     e.mode,
		ModTime:  time.Unix(0, 0),
		Typeflag: tar.TypeReg,
		Format:   tar.FormatPAX,
	}
	var content io.Reader
	switch {
	case e.source != "":
		file, err := os.Open(e.source)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		header.Size, content = info.Size(), file
	case e.content != nil:
		header.Size, content = int64(len(e.content)), bytes.NewReader(e.content)
	default:
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if content == nil {
		return nil
	}
	_, err := io.Copy(archive, content)
	return err
}
