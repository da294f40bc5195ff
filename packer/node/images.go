package node

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/ovenbird-dev/ovenbird/packer/node/containerimage"
)

// imagePrefix is before the name of every image that a node is baked with. No registry
// has it, so that a node can only use its own.
const imagePrefix = "localhost/ovenbird/"

// parts are what the images take from the node's Debian.
type parts struct {
	nft            []containerimage.File // with its libraries
	busybox        []containerimage.File
	applets        []string // that busybox answers to
	busyboxVersion string
}

// images are the container images that a node is baked with: what it takes to run a
// cluster's pods, name services and a first workload without pulling anything.
func images(r release, p parts) []containerimage.Image {
	busybox := append([]containerimage.File{
		{Path: "/tmp", Directory: true, Mode: 0o1777},
		{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Path: "/etc/group", Mode: 0o644, Content: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{Path: "/root", Directory: true, Mode: 0o700},
	}, p.busybox...)
	for _, applet := range p.applets {
		if applet != "busybox" {
			busybox = append(busybox, containerimage.File{Path: "/bin/" + applet, Link: "busybox"})
		}
	}
	return []containerimage.Image{
		{
			Names:      []string{r.PauseImage},
			Entrypoint: []string{"/pause"},
			User:       "65535:65535",
			Files:      []containerimage.File{{Path: "/pause", Source: r.path("kubernetes", "pause")}},
		},
		{
			Names:      []string{imagePrefix + "kube-proxy:v" + r.Kubernetes},
			Entrypoint: []string{"/usr/local/bin/kube-proxy"},
			Files: append([]containerimage.File{
				{Path: "/usr/local/bin/kube-proxy", Source: r.path("kubernetes", "kube-proxy")},
				{Path: "/tmp", Directory: true, Mode: 0o1777},
			}, p.nft...),
		},
		{
			Names:      []string{imagePrefix + "coredns:v" + r.CoreDNS},
			Entrypoint: []string{"/coredns"},
			User:       "65532:65532",
			Files:      []containerimage.File{{Path: "/coredns", Source: r.path("coredns", "coredns")}},
		},
		{
			// The test image: a shell, wget, nslookup, httpd.
			Names:   []string{imagePrefix + "busybox:" + p.busyboxVersion, imagePrefix + "busybox:latest"},
			Command: []string{"sh"},
			Files:   busybox,
		},
	}
}

var (
	appletName  = regexp.MustCompile(`^[\[\]A-Za-z0-9_.-]+$`)
	versionName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

// fetchParts reads what scripts/parts.sh has packed. It comes from a machine that other
// provisioners have worked on, so nothing of it is taken on trust.
func (r remote) fetchParts() (parts, error) {
	var p parts
	raw := map[string][]byte{}
	for _, name := range []string{"nft.tar", "busybox.tar", "applets", "busybox-version"} {
		content, err := r.download(name)
		if err != nil {
			return p, err
		}
		raw[name] = content
	}
	var err error
	if p.nft, err = untar(raw["nft.tar"]); err != nil {
		return p, fmt.Errorf("read nft and its libraries: %w", err)
	}
	if p.busybox, err = untar(raw["busybox.tar"]); err != nil {
		return p, fmt.Errorf("read busybox: %w", err)
	}
	// The image has no /usr: its links lead to /bin.
	for i := range p.busybox {
		p.busybox[i].Path = "/bin/" + path.Base(p.busybox[i].Path)
	}
	for applet := range strings.FieldsSeq(string(raw["applets"])) {
		if !appletName.MatchString(applet) {
			return p, fmt.Errorf("read busybox: %q is no applet", applet)
		}
		p.applets = append(p.applets, applet)
	}
	p.busyboxVersion = strings.TrimSpace(string(raw["busybox-version"]))
	if !versionName.MatchString(p.busyboxVersion) {
		return p, fmt.Errorf("read busybox: %q is no version", p.busyboxVersion)
	}
	return p, nil
}

// untar reads a small archive of programs and libraries.
func untar(archive []byte) ([]containerimage.File, error) {
	var files []containerimage.File
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("%s is not a file", header.Name)
		}
		content, err := io.ReadAll(io.LimitReader(reader, maxDownload))
		if err != nil {
			return nil, err
		}
		//nolint:gosec // a path in an image, where it leads nowhere else
		files = append(files, containerimage.File{Path: path.Join("/", header.Name), Mode: header.Mode & 0o777, Content: content})
	}
}
