// Package sbom lists what an image is made of, as an SPDX 2.3 document: every Debian
// package, every container image, every Go program, and every module inside of those,
// container images included.
// The same image makes the same document: its date is the image's, its name comes from its
// content. The package reads a root file system and changes nothing.
package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// FileName is the document's name beside the disk and in the image.
const FileName = "sbom.spdx.json"

// namespace begins the names of documents, which must be unique: a hash follows.
const namespace = "https://github.com/ovenbird-dev/ovenbird/sbom/"

const imageID = "Image"

// Image is what is listed.
type Image struct {
	Root     string // the directory of its root file system
	Packages []lock.Package
	Images   []lock.Image
	Epoch    time.Time // its date
	Plugin   string    // the version of what has baked it
}

// Write lists the image.
func Write(image Image) ([]byte, error) {
	programs, err := findPrograms(image.Root)
	if err != nil {
		return nil, fmt.Errorf("list what is in the image: %w", err)
	}
	d := &document{licences: map[string]string{}}
	d.describe(image)
	packages := slices.SortedFunc(slices.Values(image.Packages), func(a, b lock.Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Architecture, b.Architecture))
	})
	for _, p := range packages {
		if err := d.addDebian(image.Root, p); err != nil {
			return nil, fmt.Errorf("list package %s: %w", p.Name, err)
		}
	}
	for _, i := range image.Images {
		d.addImage(i)
	}
	d.addPrograms(programs)
	return d.encode(image.Epoch, image.Plugin)
}

// document is an SPDX document in the making.
type document struct {
	packages      []*spdx.Package
	relationships []*spdx.Relationship
	licences      map[string]string // references to licences that SPDX has no name for, and Debian's name
}

func (d *document) describe(image Image) {
	d.packages = append(d.packages, &spdx.Package{
		PackageName:             "ovenbird-node-image",
		PackageSPDXIdentifier:   imageID,
		PackageVersion:          image.Epoch.UTC().Format("20060102"),
		PackageDownloadLocation: "NOASSERTION",
		PackageCopyrightText:    "NOASSERTION",
		PrimaryPackagePurpose:   "OPERATING-SYSTEM",
	})
	d.relate("DOCUMENT", common.TypeRelationshipDescribe, imageID)
}

func (d *document) relate(from, how, to string) {
	d.relationships = append(d.relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", from), RefB: common.MakeDocElementID("", to), Relationship: how,
	})
}

func (d *document) addDebian(root string, p lock.Package) error {
	licence, err := d.licence(root, p.Name)
	if err != nil {
		return err
	}
	id := identifier("deb", p.Name, p.Architecture)
	element := &spdx.Package{
		PackageName:             p.Name,
		PackageSPDXIdentifier:   common.ElementID(id),
		PackageVersion:          p.Version,
		PackageSupplier:         &common.Supplier{SupplierType: "Organization", Supplier: "Debian"},
		PackageDownloadLocation: "NOASSERTION",
		PackageSourceInfo:       fmt.Sprintf("built from the Debian source package %s %s", p.Source, p.SourceVersion),
		PackageLicenseConcluded: "NOASSERTION",
		PackageLicenseDeclared:  licence,
		PackageCopyrightText:    "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{
			{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: DebianURL(p)},
		},
	}
	if p.SHA256 != "" {
		element.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: p.SHA256}}
	}
	d.packages = append(d.packages, element)
	d.relate(imageID, common.TypeRelationshipContains, id)
	return nil
}

// DebianURL is the package URL of a Debian package: https://github.com/package-url/purl-spec.
func DebianURL(p lock.Package) string {
	qualifiers := url.Values{"arch": {p.Architecture}, "distro": {"debian-13"}}
	if p.Source != "" && (p.Source != p.Name || p.SourceVersion != p.Version) {
		qualifiers.Set("upstream", p.Source+"@"+p.SourceVersion)
	}
	return "pkg:deb/debian/" + p.Name + "@" + escape(p.Version) + "?" + qualifiers.Encode()
}

// addImage lists a container image by its manifest.
func (d *document) addImage(i lock.Image) {
	sum := strings.TrimPrefix(i.Digest, "sha256:")
	id := identifier("image", sum)
	element := &spdx.Package{
		PackageName:             cmp.Or(strings.Join(i.Names, ", "), i.Digest),
		PackageSPDXIdentifier:   common.ElementID(id),
		PackageVersion:          i.Digest,
		PackageDownloadLocation: "NOASSERTION",
		PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: sum}},
		PackageLicenseConcluded: "NOASSERTION",
		PackageLicenseDeclared:  "NOASSERTION",
		PackageCopyrightText:    "NOASSERTION",
		PrimaryPackagePurpose:   "CONTAINER",
	}
	for _, name := range i.Names {
		element.PackageExternalReferences = append(element.PackageExternalReferences,
			&spdx.PackageExternalReference{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: ImageURL(name, i.Digest)})
	}
	d.packages = append(d.packages, element)
	d.relate(imageID, common.TypeRelationshipContains, id)
}

// ImageURL is the package URL of a container image by one of its names.
func ImageURL(name, digest string) string {
	repository, _, _ := strings.Cut(name, "@")
	qualifiers := url.Values{}
	if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
		qualifiers.Set("tag", repository[colon+1:])
		repository = repository[:colon]
	}
	qualifiers.Set("repository_url", repository)
	return "pkg:oci/" + path.Base(repository) + "@" + escape(digest) + "?" + qualifiers.Encode()
}

// GoURL is the package URL of a Go module; a version that is not known is left out.
func GoURL(path, version string) string {
	if version == "" {
		return "pkg:golang/" + path
	}
	return "pkg:golang/" + path + "@" + escape(version)
}

// escape writes a version as a package URL has it.
func escape(version string) string {
	return strings.NewReplacer("%", "%25", "+", "%2B", ":", "%3A", "/", "%2F", "@", "%40").Replace(version)
}

func (d *document) addPrograms(programs []program) {
	modules := map[string]bool{}
	for _, p := range programs {
		id := identifier("program", p.path, p.sha256[:12])
		d.packages = append(d.packages, &spdx.Package{
			PackageName:             p.path,
			PackageSPDXIdentifier:   common.ElementID(id),
			PackageFileName:         p.path,
			PackageDownloadLocation: "NOASSERTION",
			PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: p.sha256}},
			PackageLicenseConcluded: "NOASSERTION",
			PackageLicenseDeclared:  "NOASSERTION",
			PackageCopyrightText:    "NOASSERTION",
			PackageComment:          fmt.Sprintf("a program of Go package %s, built with %s", p.main, p.goVersion),
			PrimaryPackagePurpose:   "APPLICATION",
		})
		d.relate(imageID, common.TypeRelationshipContains, id)
		for _, m := range p.modules {
			module := identifier("go", m.path, m.version)
			d.relate(id, common.TypeRelationshipContains, module)
			if modules[module] {
				continue
			}
			modules[module] = true
			d.packages = append(d.packages, m.element(module))
		}
	}
}

// element describes a Go module.
func (m module) element(id string) *spdx.Package {
	element := &spdx.Package{
		PackageName:             m.path,
		PackageSPDXIdentifier:   common.ElementID(id),
		PackageVersion:          m.version,
		PackageDownloadLocation: "NOASSERTION",
		PackageLicenseConcluded: "NOASSERTION",
		PackageLicenseDeclared:  "NOASSERTION",
		PackageCopyrightText:    "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{
			{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: GoURL(m.path, m.version)},
		},
		PrimaryPackagePurpose: "LIBRARY",
	}
	if m.sum != "" {
		element.PackageSourceInfo = "go.sum " + m.sum
	}
	return element
}

// identifier makes an SPDX identifier, which has letters, digits, dots and hyphens only,
// of words that may have more: two that differ in those alone get a hash.
func identifier(kind string, words ...string) string {
	plain := strings.Join(words, "-")
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, plain)
	if clean != plain {
		sum := sha256.Sum256([]byte(plain))
		clean += "-" + hex.EncodeToString(sum[:4])
	}
	return kind + "-" + strings.TrimLeft(clean, "-")
}

// encode writes the document. Its name is a hash of all else in it.
func (d *document) encode(epoch time.Time, plugin string) ([]byte, error) {
	slices.SortStableFunc(d.packages[1:], func(a, b *spdx.Package) int {
		return strings.Compare(string(a.PackageSPDXIdentifier), string(b.PackageSPDXIdentifier))
	})
	out := spdx.Document{
		SPDXVersion:       spdx.Version,
		DataLicense:       spdx.DataLicense,
		SPDXIdentifier:    "DOCUMENT",
		DocumentName:      "ovenbird-node-image",
		DocumentNamespace: namespace,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "packer-plugin-ovenbird-" + plugin}},
			Created:  epoch.UTC().Format(time.RFC3339),
		},
		Packages:      d.packages,
		Relationships: d.relationships,
		OtherLicenses: d.otherLicences(),
	}
	text, err := encode(out)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	out.DocumentNamespace += hex.EncodeToString(sum[:])
	return encode(out)
}

func encode(d spdx.Document) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(d); err != nil {
		return nil, fmt.Errorf("write the SBOM: %w", err)
	}
	return text.Bytes(), nil
}
