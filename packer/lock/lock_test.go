package lock

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func pkg(name, version string) Package {
	return Package{
		Name: name, Version: version, Architecture: "amd64", Source: name, SourceVersion: version,
		SHA256: hash, Size: 1, Archive: "debian", Path: "pool/" + name + ".deb",
	}
}

func example() Lock {
	return Lock{
		Schema: Schema, Suite: "trixie", Architecture: "amd64",
		Epoch:      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Options:    Options{DiskSize: 6 << 30, RootFilesystem: "verity", KernelArguments: []string{}, ExtraPackages: []string{"nfs-common"}},
		Plugin:     Plugin{Version: "0.1.0", Commit: "abc"},
		Machine:    []Package{pkg("apt", "3.0"), pkg("libc6", "2.41"), pkg("old", "1")},
		Removed:    []string{"old"},
		Tools:      []Package{pkg("erofs-utils", "1.8")},
		Components: []Component{{Name: "runc", Version: "1.5.2", Programs: []Program{{Name: "runc", Path: "/usr/bin/runc", SHA256: hash}}}},
		Images:     []Image{{Names: []string{"pause:1", "pause:2"}, Digest: "sha256:" + hash}},
		Provisioned: []Package{
			pkg("libc6", "2.42"),
			{Name: "own", Version: "1", Architecture: "all", Source: "own", SourceVersion: "1"},
		},
	}
}

func TestALockIsReadAsItWasWritten(t *testing.T) {
	l := example()
	text, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(text)
	if err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("read %+v, %v, want %+v", got, err, l)
	}
	if changes := Diff(l, got); len(changes) > 0 {
		t.Errorf("what was read differs: %q", changes)
	}
}

func TestEqualLocksMakeEqualTexts(t *testing.T) {
	a, b := example(), example()
	b.Machine = []Package{b.Machine[2], b.Machine[0], b.Machine[1]}
	b.Epoch = b.Epoch.In(time.FixedZone("", 3600))
	b.Options.KernelArguments = nil
	one, _ := a.Encode()
	two, _ := b.Encode()
	if string(one) != string(two) {
		t.Errorf("the texts are\n%s\nand\n%s", one, two)
	}
}

func TestALockThatNobodyWroteIsRefused(t *testing.T) {
	text, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"another schema", `"schema": 1`, `"schema": 2`, "schema 2"},
		{"an unknown field", `"suite"`, `"sweet"`, "sweet"},
		{"a hash that is none", hash, hash[1:], "is not a SHA-256"},
		{"a hash in capitals", hash, strings.ToUpper(hash), "is not a SHA-256"},
		{"a name that is a path", `"name": "apt"`, `"name": "../apt"`, "is not the name of a Debian package"},
		{"a version with an option", `"version": "3.0"`, `"version": "-o Dir=/"`, "is not a version"},
		{"a path that leads out", "pool/apt.deb", "../apt.deb", "is not a place to fetch it from"},
		{"no date", `2026-01-02`, `1960-01-02`, "is not a date"},
		{"a package twice", `"name": "libc6"`, `"name": "apt"`, "apt:amd64 is there twice"},
		{"more text", "", "", "after top-level value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed := strings.Replace(string(text), test.old, test.new, 1)
			if test.name == "more text" {
				changed = string(text) + "{}"
			}
			if changed == string(text) {
				t.Fatal("the test changes nothing")
			}
			if _, err := Decode([]byte(changed)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestInstalledIsWhatIsThereAtTheEnd(t *testing.T) {
	var got []string
	for _, p := range example().Installed() {
		got = append(got, p.Name+" "+p.Version)
	}
	if want := "apt 3.0, libc6 2.42, own 1"; strings.Join(got, ", ") != want {
		t.Errorf("installed are %q, want %s", got, want)
	}
}

func TestADifferenceIsSaidInOneLine(t *testing.T) {
	other := strings.Repeat("f", 64)
	for _, test := range []struct {
		name   string
		change func(*Lock)
		want   string
	}{
		{"nothing", func(*Lock) {}, ""},
		{"the order only", func(l *Lock) { l.Machine[0], l.Machine[1] = l.Machine[1], l.Machine[0] }, ""},
		{"a newer package", func(l *Lock) { l.Machine[1].Version = "2.41-2" }, "  machine: libc6 2.41 -> 2.41-2"},
		{"one more", func(l *Lock) { l.Tools = append(l.Tools, pkg("xz", "5")) }, "  tools: + xz 5"},
		{"one less", func(l *Lock) { l.Machine = l.Machine[:2] }, "  machine: - old 1"},
		{"another .deb", func(l *Lock) { l.Machine[0].SHA256 = other }, "  machine: apt 3.0 is another .deb: " + hash + " (1 bytes, debian/pool/apt.deb, source apt 3.0) -> " + other + " (1 bytes, debian/pool/apt.deb, source apt 3.0)"},
		{"a component", func(l *Lock) { l.Components[0].Version = "1.6.0" }, "  components: runc 1.5.2 -> 1.6.0"},
		{"a program", func(l *Lock) { l.Components[0].Programs[0].SHA256 = other }, "  components: runc 1.5.2: program runc is another: " + hash + " -> " + other},
		{"an image", func(l *Lock) { l.Images[0].Names = l.Images[0].Names[:1] }, "  images: - pause:2@sha256:" + hash},
		{"an option", func(l *Lock) { l.Options.ExtraPackages = nil }, "  options: extra_packages: nfs-common -> none"},
		{"the plugin", func(l *Lock) { l.Plugin.Commit = "def" }, "  plugin: 0.1.0 abc -> 0.1.0 def"},
		{"what is removed", func(l *Lock) { l.Removed = nil }, "  removed: - old"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := example(), example()
			test.change(&b)
			if got := strings.Join(Diff(a, b), "\n"); got != test.want {
				t.Errorf("the difference is\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
