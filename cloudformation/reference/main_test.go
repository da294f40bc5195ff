package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const docs = "../../docs/cloudformation"

func TestThePagesAreWhatTheTemplatesSay(t *testing.T) {
	pages, err := read("..")
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are %d pages, %v", len(pages), err)
	}
	for name, page := range pages {
		committed, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if string(committed) != page {
			t.Errorf("%s is out of date: go generate ./cloudformation/template", name)
		}
	}
	kept, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range kept {
		if _, ok := pages[filepath.Base(file)]; !ok {
			t.Errorf("%s is of no template", file)
		}
	}
}

func TestAPageHasEveryParameterResourceAndOutput(t *testing.T) {
	pages, err := read("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `ClusterName` | required | The cluster's name. It must be",
		"| `InstanceType` | `t3.medium` |",
		"| `ImageId` | empty |",
		"One of `ovenbird`, `eks`.",
		"- No node could ever be replaced.",
		"| `NodeInstanceProfile` | `AWS::IAM::InstanceProfile` | If `MakesRole`.",
		"| `NodeRoleArn` | `STACK-NodeRoleArn` |",
	} {
		if !strings.Contains(pages["workers.md"], want) {
			t.Errorf("the page of the workers has no %q", want)
		}
	}
}
