package sbom

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const noAssertion = "NOASSERTION"

// spdxNames are SPDX's names for Debian's, of the licences that are most of Debian:
// https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name
var spdxNames = map[string]string{
	"AFL-2.1": "AFL-2.1", "Apache-2": "Apache-2.0", "Apache-2.0": "Apache-2.0", "Artistic": "Artistic-1.0-Perl",
	"Artistic-2": "Artistic-2.0", "Artistic-2.0": "Artistic-2.0", "BSD-2-clause": "BSD-2-Clause", "BSD-2-Clause": "BSD-2-Clause",
	"BSD-3-clause": "BSD-3-Clause", "BSD-3-Clause": "BSD-3-Clause", "BSD-4-clause": "BSD-4-Clause",
	"BSL-1.0": "BSL-1.0", "CC0-1.0": "CC0-1.0", "Expat": "MIT", "GFDL-1.3+": "GFDL-1.3-or-later", "GFDL-1.2+": "GFDL-1.2-or-later",
	"GPL-1": "GPL-1.0-only", "GPL-1+": "GPL-1.0-or-later", "GPL-2": "GPL-2.0-only", "GPL-2.0": "GPL-2.0-only",
	"GPL-2+": "GPL-2.0-or-later", "GPL-2.0+": "GPL-2.0-or-later", "GPL-3": "GPL-3.0-only", "GPL-3.0": "GPL-3.0-only",
	"GPL-3+": "GPL-3.0-or-later", "GPL-3.0+": "GPL-3.0-or-later", "ISC": "ISC", "LGPL-2": "LGPL-2.0-only",
	"LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.0+": "LGPL-2.0-or-later", "LGPL-2.1": "LGPL-2.1-only", "LGPL-2.1+": "LGPL-2.1-or-later",
	"LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later", "MIT": "MIT", "MPL-2.0": "MPL-2.0", "OpenSSL": "OpenSSL",
	"Unicode-DFS-2016": "Unicode-DFS-2016", "Zlib": "Zlib", "zlib": "Zlib", "Unlicense": "Unlicense", "curl": "curl",
}

var connective = regexp.MustCompile(`(?i),?\s+(and|or)\s+|/`)

// licence reads what a Debian package says about its licences: an SPDX expression when its
// copyright file is of the machine-readable kind.
func (d *document) licence(root, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "usr/share/doc", name, "copyright"))
	if errors.Is(err, fs.ErrNotExist) {
		return noAssertion, nil
	}
	if err != nil {
		return "", err
	}
	names := debianLicences(string(text))
	if len(names) == 0 {
		return noAssertion, nil
	}
	parts := map[string]bool{}
	for _, name := range names {
		for _, part := range d.expressions(name) {
			parts[part] = true
		}
	}
	sorted := slices.Sorted(maps.Keys(parts))
	if len(sorted) > 1 {
		for i, part := range sorted {
			if strings.Contains(part, " OR ") {
				sorted[i] = "(" + part + ")"
			}
		}
	}
	return strings.Join(sorted, " AND "), nil
}

// debianLicences are the licences of a machine-readable copyright file's Files
// paragraphs; none for another kind of file.
func debianLicences(text string) []string {
	first, rest, _ := strings.Cut(text, "\n")
	if key, value, _ := strings.Cut(first, ":"); key != "Format" && key != "Format-Specification" || !strings.Contains(value, "copyright-format") && !strings.Contains(value, "dep5") {
		return nil
	}
	var names []string
	inFiles := false
	for line := range strings.Lines(rest) {
		key, value, isField := strings.Cut(line, ":")
		switch {
		case strings.TrimSpace(line) == "":
			inFiles = false
		case isField && strings.EqualFold(key, "Files"):
			inFiles = true
		case isField && strings.EqualFold(key, "License") && inFiles && strings.TrimSpace(value) != "":
			names = append(names, strings.TrimSpace(value))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// expressions turns a Debian licence, which may be several, into SPDX expressions that
// all hold.
func (d *document) expressions(name string) []string {
	var or, and bool
	for _, word := range connective.FindAllStringSubmatch(name, -1) {
		or = or || !strings.EqualFold(word[1], "and")
		and = and || strings.EqualFold(word[1], "and")
	}
	if or && and { // without parentheses nobody knows which binds tighter
		return []string{d.reference(name)}
	}
	parts := connective.Split(name, -1)
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if known := spdxNames[part]; known != "" {
			parts[i] = known
		} else {
			parts[i] = d.reference(part)
		}
	}
	if and {
		return parts
	}
	slices.Sort(parts)
	return []string{strings.Join(slices.Compact(parts), " OR ")}
}

// reference names a licence that SPDX has no name for.
func (d *document) reference(name string) string {
	reference := "LicenseRef-" + identifier("debian", name)
	d.licences[reference] = name
	return reference
}

func (d *document) otherLicences() []*spdx.OtherLicense {
	var list []*spdx.OtherLicense
	for _, reference := range slices.Sorted(maps.Keys(d.licences)) {
		list = append(list, &spdx.OtherLicense{
			LicenseIdentifier: reference,
			LicenseName:       d.licences[reference],
			ExtractedText:     "See the copyright files below /usr/share/doc in the image, where this licence is called " + d.licences[reference] + ".",
		})
	}
	return list
}
