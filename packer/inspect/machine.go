package inspect

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// entry is one file of the tree.
type entry struct {
	mode       fs.FileMode
	uid, gid   uint32
	size       int64
	link       string // where a symbolic link leads
	dev, inode uint64
}

// machine is a subject that has been read: the tree's names and what the files mean that
// several controls ask about.
type machine struct {
	Subject
	entries map[string]entry // by absolute path
	paths   []string         // of entries, sorted

	users, groups []account
	sysctls       map[string]string // what systemd-sysctl will set
	packages      map[string]bool   // Debian's
}

// account is a line of /etc/passwd or /etc/group.
type account struct {
	name, password string
	id             string
	fields         []string
}

func read(s Subject) (*machine, error) {
	m := &machine{Subject: s, entries: map[string]entry{}}
	err := filepath.WalkDir(s.Root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: info.Mode(), size: info.Size()}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			e.uid, e.gid, e.dev, e.inode = stat.Uid, stat.Gid, stat.Dev, stat.Ino
		}
		if e.mode&fs.ModeSymlink != 0 {
			if e.link, err = os.Readlink(name); err != nil {
				return err
			}
		}
		m.entries["/"+strings.TrimPrefix(strings.TrimPrefix(name, s.Root), "/")] = e
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.paths = slices.Sorted(maps.Keys(m.entries))
	if m.users, err = m.accounts("/etc/passwd"); err != nil {
		return nil, err
	}
	if m.groups, err = m.accounts("/etc/group"); err != nil {
		return nil, err
	}
	m.sysctls = m.readSysctls()
	m.packages = m.readPackages()
	return m, nil
}

// resolve follows symbolic links within the tree; it returns "" for one that leads to
// nothing or in a circle.
func (m *machine) resolve(name string) string {
	name = path.Clean(name)
	for range 40 { // the kernel's own limit
		at, again := "/", false
		parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
		for i, part := range parts {
			at = path.Join(at, part)
			e, ok := m.entries[at]
			if !ok {
				return ""
			}
			if e.mode&fs.ModeSymlink != 0 {
				target := e.link
				if !path.IsAbs(target) {
					target = path.Join(path.Dir(at), target)
				}
				name, again = path.Join(append([]string{target}, parts[i+1:]...)...), true
				break
			}
		}
		if !again {
			return at
		}
	}
	return ""
}

// exists reports whether a name, or what its link leads to, is there.
func (m *machine) exists(name string) bool { return m.resolve(name) != "" }

// text reads a file of the tree; one that is not there is empty.
func (m *machine) text(name string) (string, error) {
	at := m.resolve(name)
	if at == "" || !m.entries[at].mode.IsRegular() {
		return "", nil
	}
	content, err := os.ReadFile(filepath.Join(m.Root, at))
	return string(content), err
}

// below lists the paths under a directory.
func (m *machine) below(dir string) []string {
	if dir = m.resolve(dir); dir == "" {
		return nil
	}
	from, _ := slices.BinarySearch(m.paths, dir+"/")
	to, _ := slices.BinarySearch(m.paths, dir+"0") // the byte after the slash
	return m.paths[from:to]
}

func (m *machine) accounts(file string) ([]account, error) {
	text, err := m.text(file)
	if err != nil {
		return nil, err
	}
	var list []account
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 3 {
			fields = append(fields, "", "")
		}
		list = append(list, account{name: fields[0], password: fields[1], id: fields[2], fields: fields})
	}
	return list, nil
}

// sysctlDirectories are systemd-sysctl's: of files with one name the first counts, and
// then they are read in the order of their names.
var sysctlDirectories = []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"}

// leftAlone is the value of a setting that is exempt from patterns and not set: a line
// with a dash, and without a value.
const leftAlone = "the kernel's own"

func (m *machine) readSysctls() map[string]string {
	files := map[string]string{}
	for _, dir := range slices.Backward(sysctlDirectories) {
		for _, name := range m.below(dir) {
			if strings.HasSuffix(name, ".conf") {
				files[path.Base(name)] = name
			}
		}
	}
	values := map[string]string{}
	for _, base := range slices.Sorted(maps.Keys(files)) {
		text, _ := m.text(files[base]) // a link to /dev/null says nothing
		for line := range strings.Lines(text) {
			line, excluded := strings.CutPrefix(strings.TrimSpace(line), "-")
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				value, ok = leftAlone, excluded
			}
			if ok && !strings.HasPrefix(key, "#") && !strings.HasPrefix(key, ";") {
				values[strings.ReplaceAll(strings.TrimSpace(key), "/", ".")] = strings.TrimSpace(value)
			}
		}
	}
	return values
}

func (m *machine) readPackages() map[string]bool {
	text, _ := m.text("/var/lib/dpkg/status") // a tree without dpkg has no packages
	packages := map[string]bool{}
	name := ""
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "Package: "); ok {
			name = strings.TrimSpace(value)
		}
		if strings.HasPrefix(line, "Status:") && strings.HasSuffix(strings.TrimSpace(line), " installed") {
			packages[name] = true
		}
	}
	return packages
}

// isNode is what controls need that are about a Kubernetes node.
func isNode(m *machine) string {
	if !m.exists("/usr/bin/kubelet") {
		return "the image has no kubelet: ovenbird-node has not run"
	}
	return ""
}

// Where the content of container images lies: file systems of their own, with owners and
// programs that mean nothing to the node.
var layerDirectories = []string{
	"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/",
	"/usr/lib/ovenbird/layers/",
}

func inLayer(name string) bool {
	return slices.ContainsFunc(layerDirectories, func(dir string) bool { return strings.HasPrefix(name, dir) })
}

// describe is a finding about a file: its permissions and owner, as ls shows them.
func (m *machine) describe(name string) string {
	e := m.entries[name]
	return fmt.Sprintf("%s %s %d:%d", name, e.mode, e.uid, e.gid)
}
