package inspect

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Thing is something that takes room in the image and that a person can leave out: a
// Debian package, a layer of a container image, or a file of neither.
type Thing struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes, before compression
}

// The kinds of things.
const (
	kindPackage = "package"
	kindLayer   = "container layer"
	kindFile    = "file"
)

// Usage is what a tree's files take, in bytes before compression.
type Usage struct {
	Files  int64   `json:"files"`
	Things []Thing `json:"largest"` // by size, largest first
}

// Measure finds the limit largest things below a root directory.
func Measure(root string, limit int) (Usage, error) {
	m, err := read(Subject{Root: root})
	if err != nil {
		return Usage{}, fmt.Errorf("measure the root file system: %w", err)
	}
	owners, err := m.owners()
	if err != nil {
		return Usage{}, fmt.Errorf("measure the root file system: %w", err)
	}
	var usage Usage
	sizes, largest := map[Thing]int64{}, map[Thing]string{}
	seen := map[[2]uint64]bool{} // a hard link takes no room of its own
	for _, name := range m.paths {
		e := m.entries[name]
		if !e.mode.IsRegular() || seen[[2]uint64{e.dev, e.inode}] {
			continue
		}
		seen[[2]uint64{e.dev, e.inode}] = true
		usage.Files += e.size
		thing := Thing{Kind: kindFile, Name: name}
		if dir, number := layer(name); dir != "" {
			thing = Thing{Kind: kindLayer, Name: number}
			if within := strings.TrimPrefix(name, dir); largest[thing] == "" || e.size > m.entries[dir+largest[thing]].size {
				largest[thing] = within
			}
		} else if owner := owners[name]; owner != "" {
			thing = Thing{Kind: kindPackage, Name: owner}
		}
		sizes[thing] += e.size
	}
	for thing, size := range sizes {
		if thing.Kind == kindLayer {
			thing.Name += " (with " + largest[thing] + ")"
		}
		thing.Size = size
		usage.Things = append(usage.Things, thing)
	}
	slices.SortFunc(usage.Things, func(a, b Thing) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(a.Name, b.Name))
	})
	usage.Things = usage.Things[:min(limit, len(usage.Things))]
	return usage, nil
}

// layer splits a path inside a container layer off the layer's own directory, and gives
// the layer's number. Outside of layers the directory is empty.
func layer(name string) (dir, number string) {
	for _, parent := range layerDirectories {
		rest, ok := strings.CutPrefix(name, parent)
		if !ok {
			continue
		}
		number, rest, _ = strings.Cut(rest, "/")
		dir = parent + number
		if strings.HasPrefix(rest, "fs/") {
			dir += "/fs"
		}
		return dir, number
	}
	return "", ""
}

// owners maps files to the Debian packages that they come from.
func (m *machine) owners() (map[string]string, error) {
	owners := map[string]string{}
	for _, list := range m.below("/var/lib/dpkg/info") {
		name, isList := strings.CutSuffix(path.Base(list), ".list")
		if !isList {
			continue
		}
		text, err := m.text(list)
		if err != nil {
			return nil, err
		}
		name, _, _ = strings.Cut(name, ":")
		for file := range strings.Lines(text) {
			// Lists still say /bin and /lib, which are links into /usr.
			file = strings.TrimSpace(file)
			at := m.resolve(path.Dir(file))
			if e, ok := m.entries[path.Join(at, path.Base(file))]; at != "" && ok && e.mode&fs.ModeDir == 0 {
				owners[path.Join(at, path.Base(file))] = name
			}
		}
	}
	return owners, nil
}
