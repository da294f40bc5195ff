package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

const source, page = "../types.go", "../../../docs/nodeconfig.md"

func TestThePageIsWhatTheTypesSay(t *testing.T) {
	fields, err := read(source)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != render(fields) {
		t.Errorf("%s is out of date: go generate ./agent/nodeconfig", filepath.Base(page))
	}
}

// TestExamplesAreRead gives each example to the reader. What is not there yet is refused as such.
func TestExamplesAreRead(t *testing.T) {
	fields, err := read(source)
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, f := range fields {
		if f.example == "" {
			continue
		}
		examples++
		document := "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n"
		if parent, ok := strings.CutPrefix(f.path, "spec.instance.localStorage."); ok && parent != "strategy" {
			document += "spec: {instance: {localStorage: {strategy: RAID0}}}\n---\n" + document
		}
		names := strings.Split(f.path, ".")
		for depth, name := range names {
			document += strings.Repeat("  ", depth) + name + ":"
			if depth < len(names)-1 {
				document += "\n"
			}
		}
		got, err := nodeconfig.Parse([]byte(document + " " + f.example + "\n"))
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
		}
		if len(got.Warnings) > 0 {
			t.Errorf("%s: %q", f.path, got.Warnings)
		}
	}
	if examples < 10 {
		t.Errorf("only %d examples", examples)
	}
}
