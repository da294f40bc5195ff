// Package attest states where an image comes from: an in-toto statement whose predicate
// is SLSA provenance, and a signature of it with a key that the user has. A statement
// holds no time and no path of the machine that baked: the same image, the same statement.
package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/sbom"
)

// Names of the files beside the disk; the first is in the image too.
const (
	FileName      = "provenance.json"
	SignatureName = FileName + ".sig"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	project       = "https://github.com/ovenbird-dev/ovenbird"
	// buildType names what the parameters mean; docs/verify.md says it.
	buildType = project + "/bake/v1"
	builderID = project + "/packer/image"
)

// Statement is an in-toto statement, version 1:
// https://github.com/in-toto/attestation/tree/main/spec/v1
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     Provenance `json:"predicate"`
}

// Resource names something by its content.
type Resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// Provenance is SLSA's, version 1: https://slsa.dev/spec/v1.0/provenance
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition is everything that decides the subjects' bytes.
type BuildDefinition struct {
	BuildType            string     `json:"buildType"`
	ExternalParameters   Parameters `json:"externalParameters"`
	ResolvedDependencies []Resource `json:"resolvedDependencies"`
}

// Parameters are what the template says.
type Parameters struct {
	Suite        string       `json:"suite"`
	Architecture string       `json:"architecture"`
	Options      lock.Options `json:"options"`
	Except       []Exception  `json:"except,omitempty"`
}

// Exception is a failure of a control that the template accepts.
type Exception struct {
	Control string `json:"control"`
	Reason  string `json:"reason"`
}

// RunDetails say who has baked.
type RunDetails struct {
	Builder Builder `json:"builder"`
}

// Builder is the plugin.
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

// File is a subject by name and SHA-256 in hexadecimal.
func File(name, sum string) Resource {
	return Resource{Name: name, Digest: map[string]string{"sha256": sum}}
}

// State makes the statement about subjects that a bake of the lock, whose file has the
// SHA-256 lockSum, has made.
func State(l lock.Lock, lockSum string, except []Exception, subjects ...Resource) ([]byte, error) {
	s := Statement{
		Type:          statementType,
		Subject:       subjects,
		PredicateType: predicateType,
		Predicate: Provenance{
			BuildDefinition: BuildDefinition{
				BuildType:            buildType,
				ExternalParameters:   Parameters{Suite: l.Suite, Architecture: l.Architecture, Options: l.Options, Except: except},
				ResolvedDependencies: append([]Resource{File(lock.FileName, lockSum)}, dependencies(l)...),
			},
			RunDetails: RunDetails{Builder: Builder{
				ID:      builderID,
				Version: map[string]string{"packer-plugin-ovenbird": l.Plugin.Version, "commit": l.Plugin.Commit},
			}},
		},
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		return nil, fmt.Errorf("write the provenance: %w", err)
	}
	return text.Bytes(), nil
}

// dependencies are the packages of the machine and of the tools, the upstream programs and
// the container images.
func dependencies(l lock.Lock) []Resource {
	var list []Resource
	seen := map[string]bool{}
	for _, p := range slices.Concat(l.Machine, l.Provisioned, l.Tools) {
		r := Resource{URI: sbom.DebianURL(p)}
		if p.SHA256 != "" {
			r.Digest = map[string]string{"sha256": p.SHA256}
		}
		if key := r.URI + p.SHA256; !seen[key] {
			seen[key] = true
			list = append(list, r)
		}
	}
	for _, c := range l.Components {
		for _, p := range c.Programs {
			list = append(list, File(c.Name+" "+c.Version+" "+p.Name, p.SHA256))
		}
	}
	for _, i := range l.Images {
		list = append(list, File("container image "+strings.Join(i.Names, " "), strings.TrimPrefix(i.Digest, "sha256:")))
	}
	return list
}

// Read reads a statement and checks that it is one of a bake.
func Read(text []byte) (Statement, error) {
	var s Statement
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&s); err != nil {
		return Statement{}, fmt.Errorf("it is not JSON: %w", err)
	}
	if decoder.More() {
		return Statement{}, errors.New("something follows the end of the JSON")
	}
	if s.Type != statementType || s.PredicateType != predicateType {
		return Statement{}, fmt.Errorf("it is %q about %q and not an in-toto statement with SLSA provenance", s.Type, s.PredicateType)
	}
	if got := s.Predicate.BuildDefinition.BuildType; got != buildType {
		return Statement{}, fmt.Errorf("it is about a build of type %q, and not about a bake of ovenbird-image", got)
	}
	return s, nil
}

// SHA256 is the digest that the statement has of a subject, "" when it has none.
func (s Statement) SHA256(name string) string {
	for _, subject := range s.Subject {
		if subject.Name == name {
			return subject.Digest["sha256"]
		}
	}
	return ""
}
