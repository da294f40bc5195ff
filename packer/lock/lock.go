// Package lock records everything that decides an image's bytes: each Debian package,
// of the machine and of the tools that make its disk, each upstream program, each
// container image and every option. A bake writes it as its manifest, and the same
// record makes the same image again. The text is sorted and indented, so that a version
// control system shows what has changed. The package decides nothing and fetches nothing.
package lock

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// FileName is the lock's name in a bake's output directory and in the image.
const FileName = "ovenbird.lock.json"

// Schema is the version of the file's format that this package reads and writes.
const Schema = 1

// Lock is everything that an image is made from.
type Lock struct {
	Schema       int    `json:"schema"`
	Suite        string `json:"suite"`        // Debian's release, such as trixie
	Architecture string `json:"architecture"` // as Debian calls it
	// Refreshed says that only the packages are decided: components and images are those
	// of the next bake, which writes a whole lock again.
	Refreshed bool `json:"refreshed,omitempty"`
	// Epoch is the image's date, which every file of it carries: that of the newest package
	// of Machine. The same packages make the same date.
	Epoch   time.Time `json:"epoch"`
	Options Options   `json:"options"`
	Plugin  Plugin    `json:"plugin"`
	// Machine is laid out before the provisioners work, Provisioned is what they install
	// or replace; of both, what Removed names is gone at the end.
	Machine     []Package `json:"machine"`
	Provisioned []Package `json:"provisioned"`
	Removed     []string  `json:"removed"`
	// Tools are the packages of the tree whose programs make the disk. No byte of them is
	// in the image, but they decide all of its bytes.
	Tools      []Package   `json:"tools"`
	Components []Component `json:"components"`
	Images     []Image     `json:"images"`
}

// Options are the template's choices that decide bytes.
type Options struct {
	DiskSize         int64    `json:"disk_size"` // bytes
	RootFilesystem   string   `json:"root_filesystem"`
	KernelArguments  []string `json:"kernel_arguments"`
	ExtraPackages    []string `json:"extra_packages"`
	SecureBootSHA256 string   `json:"secure_boot_certificate_sha256,omitempty"`
}

// Plugin is the program that baked.
type Plugin struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

// Package is a Debian binary package, exactly.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	// Source and SourceVersion name what it was built from; advisories speak of those.
	Source        string `json:"source"`
	SourceVersion string `json:"source_version"`
	// SHA256 of the .deb, in hexadecimal. It is empty only where a provisioner has
	// installed a .deb that is in no archive: such a package cannot be fetched again.
	SHA256 string `json:"sha256,omitempty"`
	Size   int64  `json:"size,omitempty"` // of the .deb, in bytes
	// Archive is debian or security, which the template's mirrors stand for, or the
	// address of another archive; Path is the .deb's place in it.
	Archive string `json:"archive,omitempty"`
	Path    string `json:"path,omitempty"`
}

// Component is an upstream component, or the agent, and the programs of it on the node.
type Component struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Programs []Program `json:"programs"`
}

// Program is one executable.
type Program struct {
	Name   string `json:"name"`
	Path   string `json:"path,omitempty"` // on the node; empty inside a container image
	SHA256 string `json:"sha256"`
}

// Image is a container image that the node is baked with.
type Image struct {
	Names  []string `json:"names"`
	Digest string   `json:"digest"` // sha256:... of its manifest
}

// Installed lists the Debian packages of the finished image, by name.
func (l Lock) Installed() []Package {
	byName := map[string]Package{}
	for _, p := range slices.Concat(l.Machine, l.Provisioned) {
		byName[p.Name] = p
	}
	for _, name := range l.Removed {
		delete(byName, name)
	}
	installed := make([]Package, 0, len(byName))
	for _, p := range byName {
		installed = append(installed, p)
	}
	SortPackages(installed)
	return installed
}

// SortPackages brings packages into the order that a lock has them in.
func SortPackages(packages []Package) {
	slices.SortFunc(packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture))
	})
}

// Encode writes the lock as text. Equal locks make equal texts.
func (l Lock) Encode() ([]byte, error) {
	l.Schema = Schema
	l.Epoch = l.Epoch.UTC()
	// null would read as "not known".
	l.Options.KernelArguments = append([]string{}, l.Options.KernelArguments...)
	l.Options.ExtraPackages = append([]string{}, l.Options.ExtraPackages...)
	l.Machine = append([]Package{}, l.Machine...)
	l.Provisioned = append([]Package{}, l.Provisioned...)
	l.Tools = append([]Package{}, l.Tools...)
	l.Removed = slices.Sorted(slices.Values(append([]string{}, l.Removed...)))
	if l.Removed == nil {
		l.Removed = []string{}
	}
	l.Components = append([]Component{}, l.Components...)
	l.Images = append([]Image{}, l.Images...)
	for _, packages := range [][]Package{l.Machine, l.Provisioned, l.Tools} {
		SortPackages(packages)
	}
	slices.SortFunc(l.Components, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(l.Images, func(a, b Image) int { return strings.Compare(a.Digest, b.Digest) })
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(l); err != nil {
		return nil, fmt.Errorf("write the lock: %w", err)
	}
	return text.Bytes(), nil
}

// maxSize bounds a lock file; one of today has 0.2 MB.
const maxSize = 16 << 20

// Read reads and checks a lock file.
func Read(name string) (Lock, error) {
	f, err := os.Open(name)
	if err != nil {
		return Lock{}, fmt.Errorf("read the lock: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return Lock{}, fmt.Errorf("read the lock %s: %w", name, err)
	}
	l, err := Decode(text)
	if err != nil {
		return Lock{}, fmt.Errorf("the lock %s is not usable: %w", name, err)
	}
	return l, nil
}

// Decode reads a lock's text and checks that it is one that Encode could have written.
func Decode(text []byte) (Lock, error) {
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return Lock{}, err
	}
	if version.Schema != Schema {
		return Lock{}, fmt.Errorf("it has schema %d, and this plugin reads schema %d: use the plugin that wrote it, or bake without lock_file", version.Schema, Schema)
	}
	var l Lock
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return Lock{}, err
	}
	if decoder.More() {
		return Lock{}, errors.New("something follows the end of the JSON")
	}
	return l, l.check()
}

// check reports every value that a bake must not work with. A lock is a file that
// people edit; its names become file names and words of commands.
func (l Lock) check() error {
	var errs []error
	if !word.MatchString(l.Suite) || !word.MatchString(l.Architecture) {
		errs = append(errs, fmt.Errorf("suite %q or architecture %q is not a word", l.Suite, l.Architecture))
	}
	if l.Epoch.Unix() <= 0 || l.Epoch.Nanosecond() != 0 {
		errs = append(errs, fmt.Errorf("epoch %s is not a date in whole seconds", l.Epoch))
	}
	for list, packages := range map[string][]Package{"machine": l.Machine, "provisioned": l.Provisioned, "tools": l.Tools} {
		seen := map[string]bool{}
		for _, p := range packages {
			if err := p.check(list == "provisioned"); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", list, err))
			}
			if key := p.Name + ":" + p.Architecture; seen[key] {
				errs = append(errs, fmt.Errorf("%s: %s is there twice", list, key))
			} else {
				seen[key] = true
			}
		}
	}
	if len(l.Machine) == 0 || len(l.Tools) == 0 {
		errs = append(errs, errors.New("it lists no packages for the machine, or none for the tools"))
	}
	for _, c := range l.Components {
		for _, p := range c.Programs {
			if !isSHA256(p.SHA256) {
				errs = append(errs, fmt.Errorf("components: %s %s has no SHA-256", c.Name, p.Name))
			}
		}
	}
	return errors.Join(errs...)
}

var (
	word        = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)            // Debian policy 5.6.7
	versionText = regexp.MustCompile(`^([0-9]+:)?[0-9][A-Za-z0-9.+~-]*$`) // Debian policy 5.6.12
)

func (p Package) check(mayLackHash bool) error {
	switch {
	case !packageName.MatchString(p.Name):
		return fmt.Errorf("%q is not the name of a Debian package", p.Name)
	case !versionText.MatchString(p.Version):
		return fmt.Errorf("%s: %q is not a version", p.Name, p.Version)
	case !word.MatchString(p.Architecture):
		return fmt.Errorf("%s: %q is not an architecture", p.Name, p.Architecture)
	case p.SHA256 == "" && mayLackHash:
		return nil
	case !isSHA256(p.SHA256):
		return fmt.Errorf("%s: %q is not a SHA-256", p.Name, p.SHA256)
	case p.Size <= 0:
		return fmt.Errorf("%s: it has no size", p.Name)
	case p.Archive == "" || p.Path == "" || path.Clean("/"+p.Path) != "/"+p.Path || strings.ContainsAny(p.Path, " \n\x00"):
		return fmt.Errorf("%s: %q in archive %q is not a place to fetch it from", p.Name, p.Path, p.Archive)
	}
	return nil
}

func isSHA256(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 32 && s == strings.ToLower(s)
}
