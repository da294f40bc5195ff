package sbom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

func write(t *testing.T, root, name string, content []byte) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

const layer = "usr/lib/ovenbird/layers/3/fs/app"

// fixture is an image with two Debian packages and one Go program, there twice: this test.
func fixture(t *testing.T) Image {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, "usr/bin/agent", program)
	write(t, root, layer, program)
	write(t, root, "usr/bin/script", []byte("#!/bin/sh\n"))
	write(t, root, "usr/bin/empty", nil)
	write(t, root, "usr/share/doc/tool/copyright", []byte(
		"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: me\nLicense: GPL-2+ or Artistic\n\n"+
			"Files: b\nLicense: Expat\n text\n\nFiles: c\nLicense: Odd~Name\n\nLicense: Not-Of-Files\n text\n"))
	write(t, root, "usr/share/doc/old/copyright", []byte("This package was debianized by me.\nLicense: GPL-2\n"))
	return Image{Root: root, Epoch: time.Unix(1_700_000_000, 0), Plugin: "1.2.3", Packages: []lock.Package{
		{Name: "tool", Version: "1:2.0+b1~x", Architecture: "amd64", Source: "tools", SourceVersion: "1:2.0", SHA256: strings.Repeat("ab", 32)},
		{Name: "old", Version: "1", Architecture: "all", Source: "old", SourceVersion: "1"},
	}, Images: []lock.Image{{Names: []string{"registry:5000/team/app:1.0", "registry:5000/team/app:latest"}, Digest: "sha256:" + strings.Repeat("cd", 32)}}}
}

func read(t *testing.T, image Image) (*spdx.Document, []byte) {
	t.Helper()
	text, err := Write(image)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("SPDX's own reader refuses it: %v", err)
	}
	return document, text
}

func find(t *testing.T, document *spdx.Document, name string) *spdx.Package {
	t.Helper()
	i := slices.IndexFunc(document.Packages, func(p *spdx.Package) bool { return p.PackageName == name })
	if i < 0 {
		t.Fatalf("%s is not listed", name)
	}
	return document.Packages[i]
}

func TestAContainerImageIsListedByItsManifest(t *testing.T) {
	document, _ := read(t, fixture(t))
	got := find(t, document, "registry:5000/team/app:1.0, registry:5000/team/app:latest")
	if sum := strings.Repeat("cd", 32); got.PackageVersion != "sha256:"+sum || got.PackageChecksums[0].Value != sum {
		t.Errorf("it is %s, %v", got.PackageVersion, got.PackageChecksums)
	}
	want := []string{"pkg:oci/app@sha256%3A" + strings.Repeat("cd", 32) + "?repository_url=registry%3A5000%2Fteam%2Fapp&tag=1.0", "pkg:oci/app@sha256%3A" + strings.Repeat("cd", 32) + "?repository_url=registry%3A5000%2Fteam%2Fapp&tag=latest"}
	var urls []string
	for _, r := range got.PackageExternalReferences {
		urls = append(urls, r.Locator)
	}
	if !slices.Equal(urls, want) {
		t.Errorf("its URLs are %q, want %q", urls, want)
	}
	if got := ImageURL("registry:5000/app@sha256:cd", "sha256:cd"); got != "pkg:oci/app@sha256%3Acd?repository_url=registry%3A5000%2Fapp" {
		t.Errorf("without a tag it is %s", got)
	}
}

func TestEveryElementHasItsOwnNameAndIsPartOfTheImage(t *testing.T) {
	document, _ := read(t, fixture(t))
	parents := map[common.ElementID]common.ElementID{}
	for _, r := range document.Relationships {
		parents[r.RefB.ElementRefID] = r.RefA.ElementRefID
	}
	seen := map[common.ElementID]bool{"DOCUMENT": true}
	for _, p := range document.Packages {
		if seen[p.PackageSPDXIdentifier] {
			t.Errorf("%s is there twice", p.PackageSPDXIdentifier)
		}
		seen[p.PackageSPDXIdentifier] = true
		at := p.PackageSPDXIdentifier
		for at != "" && at != "DOCUMENT" {
			at = parents[at]
		}
		if at != "DOCUMENT" {
			t.Errorf("%s is not part of the image", p.PackageSPDXIdentifier)
		}
	}
	for child, parent := range parents {
		if !seen[child] || !seen[parent] {
			t.Errorf("%s or %s, which are related, are not listed", parent, child)
		}
	}
}

func TestDebianPackagesHaveTheirSourceHashAndLicence(t *testing.T) {
	document, _ := read(t, fixture(t))
	tool := find(t, document, "tool")
	if got, want := tool.PackageExternalReferences[0].Locator, "pkg:deb/debian/tool@1%3A2.0%2Bb1~x?arch=amd64&distro=debian-13&upstream=tools%401%3A2.0"; got != want {
		t.Errorf("the package URL is %s, want %s", got, want)
	}
	if tool.PackageChecksums[0].Value != strings.Repeat("ab", 32) {
		t.Errorf("the checksum is %v", tool.PackageChecksums)
	}
	const odd = "LicenseRef-debian-Odd-Name-"
	if got := tool.PackageLicenseDeclared; !strings.HasPrefix(got, "(Artistic-1.0-Perl OR GPL-2.0-or-later) AND "+odd) || !strings.HasSuffix(got, " AND MIT") {
		t.Errorf("the licence is %s", got)
	}
	if len(document.OtherLicenses) != 1 || document.OtherLicenses[0].LicenseName != "Odd~Name" {
		t.Errorf("licences without an SPDX name are %+v", document.OtherLicenses)
	}
	if got := find(t, document, "old").PackageLicenseDeclared; got != noAssertion {
		t.Errorf("a copyright file for people says %s", got)
	}
}

func TestGoProgramsAreListedWithTheirModules(t *testing.T) {
	document, _ := read(t, fixture(t))
	for _, name := range []string{"/usr/bin/agent", "container layer 3: /app"} {
		p := find(t, document, name)
		if at := Location(name); at != layer && at != "usr/bin/agent" {
			t.Errorf("%s is said to lie at %s", name, at)
		}
		var urls []string
		for _, r := range document.Relationships {
			if r.RefA.ElementRefID != p.PackageSPDXIdentifier {
				continue
			}
			i := slices.IndexFunc(document.Packages, func(m *spdx.Package) bool { return m.PackageSPDXIdentifier == r.RefB.ElementRefID })
			urls = append(urls, document.Packages[i].PackageExternalReferences[0].Locator)
		}
		for _, want := range []string{"pkg:golang/github.com/ovenbird-dev/ovenbird", "pkg:golang/stdlib@1."} {
			if !slices.ContainsFunc(urls, func(url string) bool { return strings.HasPrefix(url, want) }) {
				t.Errorf("%s has the modules %v, want %s", name, urls, want)
			}
		}
		if slices.ContainsFunc(urls, func(url string) bool { return strings.Contains(url, "devel") }) {
			t.Errorf("%s has a module of no version: %v", name, urls)
		}
	}
}

func TestAProgramHasTheModulesOfThoseThatItCarries(t *testing.T) {
	root := t.TempDir()
	var outer, inner bytes.Buffer
	for out, main := range map[*bytes.Buffer]string{&outer: "package main; func main() {}", &inner: "package main; import _ \"golang.org/x/mod/semver\"; func main() {}"} {
		write(t, root, "main.go", []byte(main))
		binary := filepath.Join(root, "built")
		if said, err := exec.Command("go", "build", "-o", binary, filepath.Join(root, "main.go")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(content)
	}
	text, program := []byte(elf+"no program"), inner.Bytes()
	for name, test := range map[string]struct {
		content []byte
		want    bool
	}{
		"nothing":          {outer.Bytes(), false},
		"something else":   {slices.Concat(outer.Bytes(), text), false},
		"a torn program":   {slices.Concat(outer.Bytes(), program[:len(program)/2]), false},
		"a program":        {slices.Concat(outer.Bytes(), program, []byte("more")), true},
		"one among others": {slices.Concat(outer.Bytes(), text, program[:100], program), true},
	} {
		write(t, root, "usr/bin/agent", test.content)
		got, err := readProgram(filepath.Join(root, "usr/bin/agent"))
		if err != nil || got == nil {
			t.Fatalf("%s: got %v, %v", name, got, err)
		}
		if has := slices.ContainsFunc(got.modules, func(m module) bool { return m.path == "golang.org/x/mod" && m.version != "" }); has != test.want {
			t.Errorf("with %s it has %v", name, got.modules)
		}
		standard := 0
		for _, m := range got.modules {
			if m.path == "stdlib" {
				standard++
			}
		}
		if standard != 1 {
			t.Errorf("with %s it has the standard library %d times", name, standard)
		}
	}
}

func TestAModuleThatReplacesAnotherIsTheOneInTheProgram(t *testing.T) {
	got := modules(&debug.BuildInfo{
		GoVersion: "go1.26.8 X:nodwarf5",
		Main:      debug.Module{Path: "example.com/tool", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:a="},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1", Sum: "h1:b="}},
		},
	})
	want := []module{{"example.com/tool", "", ""}, {"example.com/a", "v1.0.0", "h1:a="}, {"example.com/fork", "v1.0.1", "h1:b="}, {"stdlib", "1.26.8", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheSameImageMakesTheSameDocument(t *testing.T) {
	one, two := fixture(t), fixture(t)
	slices.Reverse(two.Packages)
	_, first := read(t, one)
	document, second := read(t, two)
	if !bytes.Equal(first, second) {
		t.Error("two lists of one image differ")
	}
	if document.CreationInfo.Created != "2023-11-14T22:13:20Z" || bytes.Contains(first, []byte(one.Root)) {
		t.Error("the document depends on where or when it is made")
	}
	two.Packages[0].Version = "2"
	if other, _ := read(t, two); other.DocumentNamespace == document.DocumentNamespace {
		t.Error("lists of two images have one name")
	}
}
