// Command reference writes a page of docs/cloudformation for each template of cloudformation/,
// from what the template says of itself. `go generate ./cloudformation/template` runs it.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/cloudformation/template"
)

//go:embed head.md
var head string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "reference: %v\n", err)
		os.Exit(1)
	}
}

// run writes the pages into the directory that args name, from a directory beside the templates.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want the directory to write to")
	}
	pages, err := read("..")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // documentation is for everyone
		return err
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(args[0], name), []byte(page), 0o644); err != nil { //nolint:gosec // the same
			return err
		}
	}
	return nil
}

// read renders the pages of the templates in a directory, by their file names.
func read(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	pages := map[string]string{}
	for _, file := range files {
		t, err := template.Read(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		pages[strings.TrimSuffix(name, ".yaml")+".md"] = render(name, t)
	}
	return pages, nil
}

func render(file string, t template.Template) string {
	var page strings.Builder
	fmt.Fprintf(&page, head, file, file)
	fmt.Fprintf(&page, "%s\n", t.Description)
	for _, group := range t.Groups {
		fmt.Fprintf(&page, "\n## %s\n\n| parameter | default | |\n| --- | --- | --- |\n", group.Label)
		for _, name := range group.Parameters {
			if p, ok := t.Parameter(name); ok {
				fmt.Fprintf(&page, "| `%s` | %s | %s |\n", p.Name, standard(p), cell(p.Description+" "+constraint(p)))
			}
		}
	}
	if refused := refusals(t); len(refused) > 0 {
		fmt.Fprint(&page, "\n## What is refused\n\nBefore anything is made, CloudFormation says:\n\n")
		for _, text := range refused {
			fmt.Fprintf(&page, "- %s\n", text)
		}
	}
	fmt.Fprint(&page, "\n## Resources\n\n| resource | type | |\n| --- | --- | --- |\n")
	for _, r := range t.Resources {
		text := r.Comment
		if r.Condition != "" {
			text = strings.TrimSpace("If `" + r.Condition + "`. " + text)
		}
		fmt.Fprintf(&page, "| `%s` | `%s` | %s |\n", r.Name, r.Type, cell(text))
	}
	fmt.Fprint(&page, "\n## Outputs\n\n| output | exported as | |\n| --- | --- | --- |\n")
	for _, o := range t.Outputs {
		export := ""
		if name, ok := o.Export.(map[string]any); ok {
			export = "`" + strings.ReplaceAll(fmt.Sprint(name["Fn::Sub"]), "${AWS::StackName}", "STACK") + "`"
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", o.Name, export, cell(o.Description))
	}
	return page.String()
}

// standard is a parameter's default as a cell.
func standard(p template.Parameter) string {
	switch {
	case p.Default == nil:
		return "required"
	case *p.Default == "":
		return "empty"
	}
	return "`" + *p.Default + "`"
}

// constraint says what a parameter may be.
func constraint(p template.Parameter) string {
	switch {
	case len(p.AllowedValues) > 0:
		return "One of `" + strings.Join(p.AllowedValues, "`, `") + "`."
	case p.ConstraintDescription != "":
		return "It " + p.ConstraintDescription + "."
	case p.MinValue != nil:
		return "At least " + strconv.Itoa(*p.MinValue) + "."
	case strings.HasPrefix(p.Type, "AWS::") || strings.HasPrefix(p.Type, "List<"):
		return "Its type is `" + p.Type + "`."
	}
	return ""
}

// refusals are the descriptions of all rules' assertions.
func refusals(t template.Template) []string {
	var texts []string
	for _, rule := range t.Rules {
		body, _ := rule.Body.(map[string]any)
		assertions, _ := body["Assertions"].([]any)
		for _, a := range assertions {
			assertion, _ := a.(map[string]any)
			if text := fmt.Sprint(assertion["AssertDescription"]); !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// cell makes one of a table's cells of a text.
func cell(text string) string {
	return strings.TrimSpace(strings.NewReplacer("\n", " ", "|", `\|`).Replace(text))
}
