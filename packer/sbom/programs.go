package sbom

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const elf = "\x7fELF" // what a program begins with

// program is a Go program of the image.
type program struct {
	path      string
	sha256    string
	main      string // its package
	goVersion string
	modules   []module
}

// module is a Go module inside a program.
type module struct {
	path, version string
	sum           string // as go.sum has it
}

// layerPath finds the number of a container layer and the path in it. Layers lie in /var
// while an image is baked, and below /usr in a verified image.
var layerPath = regexp.MustCompile(`^/(?:var/lib/containerd/io\.containerd\.snapshotter\.v1\.overlayfs/snapshots|usr/lib/ovenbird/layers)/([0-9]+)/fs(/.*)$`)

var layerName = regexp.MustCompile(`^container layer ([0-9]+): /(.*)$`)

// Location is where in a verified image a program lies that the document has a name for,
// relative to the root. The layers of container images have moved there as it was packed.
func Location(name string) string {
	if found := layerName.FindStringSubmatch(name); found != nil {
		return "usr/lib/ovenbird/layers/" + found[1] + "/fs/" + found[2]
	}
	return strings.TrimPrefix(name, "/")
}

// findPrograms reads every Go program below root, in the order of their paths.
func findPrograms(root string) ([]program, error) {
	var programs []program
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		p, err := readProgram(name)
		if err != nil || p == nil {
			return err
		}
		p.path = "/" + strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		if found := layerPath.FindStringSubmatch(p.path); found != nil {
			p.path = "container layer " + found[1] + ": " + found[2]
		}
		programs = append(programs, *p)
		return nil
	})
	slices.SortFunc(programs, func(a, b program) int { return strings.Compare(a.path, b.path) })
	return programs, err
}

// readProgram returns nil for a file that is no Go program.
func readProgram(name string) (*program, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var magic [len(elf)]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != elf {
		return nil, nil //nolint:nilerr,nilnil // too short for a program
	}
	info, err := buildinfo.Read(f)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // a program, but not Go's
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(content)
	p := &program{sha256: hex.EncodeToString(hash[:]), main: info.Path, goVersion: info.GoVersion, modules: modules(info)}
	for _, m := range carried(content) {
		if !slices.Contains(p.modules, m) {
			p.modules = append(p.modules, m)
		}
	}
	return p, nil
}

// carried are the modules of Go programs that lie in a program, as those are that ovenbird-agent
// runs. The linker records what the outer program is linked from only.
func carried(content []byte) []module {
	var list []module
	for {
		at := bytes.Index(content[len(elf):], []byte(elf))
		if at < 0 {
			return list
		}
		content = content[len(elf)+at:]
		if info, err := buildinfo.Read(bytes.NewReader(content)); err == nil {
			list = append(list, modules(info)...)
		}
	}
}

// modules are what a program is built from.
func modules(info *buildinfo.BuildInfo) []module {
	var list []module
	if info.Main.Path != "" {
		// A program that is built in its own checkout has no version; "(devel)" is none.
		version := strings.TrimPrefix(info.Main.Version, "(devel)")
		list = append(list, module{path: info.Main.Path, version: version, sum: info.Main.Sum})
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		list = append(list, module{path: dep.Path, version: dep.Version, sum: dep.Sum})
	}
	// Scanners know Go's own advisories by this name.
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	return append(list, module{path: "stdlib", version: version})
}
