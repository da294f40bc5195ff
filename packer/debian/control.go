// Package debian reads Debian's packages and package lists, lets apt choose versions,
// and keeps .debs by their SHA-256. apt does all that touches the network, in a directory
// of its own: the machine's sources, settings and state take no part.
package debian

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// Key names a binary package exactly.
type Key struct{ Name, Version, Architecture string }

// KeyOf is the key of a package in a lock.
func KeyOf(p lock.Package) Key { return Key{p.Name, p.Version, p.Architecture} }

func (k Key) String() string { return k.Name + " " + k.Version + " (" + k.Architecture + ")" }

// Stanza is one paragraph of a control file, without what the lines after a field's first
// say.
type Stanza map[string]string

// maxLine bounds a line of a control file; the longest of today's has 40 kB.
const maxLine = 4 << 20

// Stanzas reads the paragraphs of a control file: a package list or dpkg's status.
func Stanzas(r io.Reader) iter.Seq2[Stanza, error] {
	return func(yield func(Stanza, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxLine)
		stanza := Stanza{}
		for lines.Scan() {
			line := lines.Text()
			if line == "" {
				if len(stanza) > 0 && !yield(stanza, nil) {
					return
				}
				stanza = Stanza{}
				continue
			}
			if line[0] == ' ' || line[0] == '\t' {
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				yield(nil, fmt.Errorf("%q is not a field", line))
				return
			}
			stanza[name] = strings.TrimSpace(value)
		}
		if err := lines.Err(); err != nil {
			yield(nil, err)
			return
		}
		if len(stanza) > 0 {
			yield(stanza, nil)
		}
	}
}

// pkg is what the stanza says about a package. Archive it does not know.
func (s Stanza) pkg() (lock.Package, error) {
	p := lock.Package{
		Name: s["Package"], Version: s["Version"], Architecture: s["Architecture"],
		Source: s["Package"], SourceVersion: s["Version"],
		SHA256: s["SHA256"], Path: strings.TrimPrefix(s["Filename"], "./"),
	}
	// Source: NAME, or NAME (VERSION) where that differs.
	if source, version, ok := strings.Cut(s["Source"], " ("); ok {
		p.Source, p.SourceVersion = source, strings.TrimSuffix(version, ")")
	} else if source != "" {
		p.Source = source
	}
	if p.Name == "" || p.Version == "" || p.Architecture == "" {
		return p, fmt.Errorf("package %q, version %q, architecture %q: one is missing", p.Name, p.Version, p.Architecture)
	}
	if size := s["Size"]; size != "" {
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return p, fmt.Errorf("package %s: size: %w", p.Name, err)
		}
		p.Size = n
	}
	return p, nil
}

// Installed reads dpkg's status: the packages whose files are in the system.
func Installed(status io.Reader) ([]lock.Package, error) {
	var packages []lock.Package
	for stanza, err := range Stanzas(status) {
		if err != nil {
			return nil, fmt.Errorf("read dpkg's status: %w", err)
		}
		// "install ok installed"; of what is removed only the configuration is left.
		if words := strings.Fields(stanza["Status"]); len(words) != 3 || words[2] == "not-installed" || words[2] == "config-files" {
			continue
		}
		p, err := stanza.pkg()
		if err != nil {
			return nil, fmt.Errorf("read dpkg's status: %w", err)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// Logged reads dpkg's log: every package that was unpacked, the last version of each.
func Logged(log io.Reader) ([]Key, error) {
	last := map[string]int{}
	var keys []Key
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		// DATE TIME install|upgrade NAME:ARCHITECTURE OLD NEW
		words := strings.Fields(lines.Text())
		if len(words) != 6 || words[2] != "install" && words[2] != "upgrade" {
			continue
		}
		name, architecture, ok := strings.Cut(words[3], ":")
		if !ok {
			continue
		}
		key := Key{name, words[5], architecture}
		if at, seen := last[words[3]]; seen {
			keys[at] = key
			continue
		}
		last[words[3]] = len(keys)
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read dpkg's log: %w", err)
	}
	return keys, nil
}
