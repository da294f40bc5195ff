// Command reference writes docs/nodeconfig.md from the types of NodeConfig and the comments on
// their fields. `go generate ./agent/nodeconfig` runs it.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

//go:embed head.md
var head string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "reference: %v\n", err)
		os.Exit(1)
	}
}

// run writes the reference to the file that args name, from the package's directory.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want the file to write")
	}
	fields, err := read("types.go")
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], []byte(render(fields)), 0o644) //nolint:gosec // documentation is for everyone
}

// field is a field of NodeConfig, or a section that others belong to.
type field struct {
	path, kind, text, defaultValue, example string
	section                                 bool
}

// types are the type declarations of a file, by name.
type types map[string]*ast.TypeSpec

// read returns spec's fields in the order of their types in the Go file at path.
func read(path string) ([]field, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	declared := types{}
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.TYPE {
			continue
		}
		for _, spec := range group.Specs {
			if spec, ok := spec.(*ast.TypeSpec); ok {
				if spec.Doc == nil {
					spec.Doc = group.Doc
				}
				declared[spec.Name.Name] = spec
			}
		}
	}
	if declared["Spec"] == nil {
		return nil, fmt.Errorf("%s declares no type Spec", path)
	}
	return declared.section("spec", declared["Spec"])
}

// section returns a struct's own fields, and then those of the structs in it.
func (t types) section(path string, of *ast.TypeSpec) ([]field, error) {
	structure, ok := of.Type.(*ast.StructType)
	if !ok {
		return nil, fmt.Errorf("%s is no struct", of.Name.Name)
	}
	text := strings.Join(strings.Fields(of.Doc.Text()), " ")
	own := []field{{path: path, text: rename(text, of.Name.Name, path[strings.LastIndexByte(path, '.')+1:]), section: true}}
	var nested []field
	for _, f := range structure.Fields.List {
		name := f.Names[0].Name
		at := path + "." + jsonName(f)
		if ident, ok := f.Type.(*ast.Ident); ok && t[ident.Name] != nil {
			if _, ok := t[ident.Name].Type.(*ast.StructType); ok {
				inner, err := t.section(at, t[ident.Name])
				if err != nil {
					return nil, err
				}
				nested = append(nested, inner...)
				continue
			}
		}
		if f.Doc == nil {
			return nil, fmt.Errorf("%s.%s has no comment", of.Name.Name, name)
		}
		described := field{path: at, kind: t.kind(f.Type)}
		text, example, _ := strings.Cut(f.Doc.Text(), "Example: ")
		described.example = strings.TrimSpace(example)
		text, described.defaultValue, _ = strings.Cut(strings.Join(strings.Fields(text), " "), "Default: ")
		described.text = rename(strings.TrimSpace(text), name, jsonName(f))
		described.defaultValue = strings.TrimSuffix(described.defaultValue, ".")
		own = append(own, described)
	}
	return append(own, nested...), nil
}

// rename puts the name in user-data in the place of that in Go, with which a comment begins.
func rename(text, name, inUserData string) string {
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		return "`" + inUserData + "` " + rest
	}
	return text
}

func jsonName(f *ast.Field) string {
	tag, _ := strconv.Unquote(f.Tag.Value)
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
	return name
}

// kind says a type in the user's words.
func (t types) kind(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return t.kind(expr.X)
	case *ast.ArrayType:
		return "list of " + plural(t.kind(expr.Elt))
	case *ast.MapType:
		if element := t.kind(expr.Value); element != "anything" {
			return "mapping to " + plural(element)
		}
		return "mapping"
	case *ast.Ident:
		if t[expr.Name] != nil {
			return t.kind(t[expr.Name].Type)
		}
		if said := map[string]string{"bool": "true or false", "any": "anything"}[expr.Name]; said != "" {
			return said
		}
		return expr.Name
	}
	return "anything"
}

func plural(kind string) string {
	if first, rest, _ := strings.Cut(kind, " to "); first == "mapping" {
		return strings.TrimSuffix("mappings to "+rest, " to ")
	}
	if kind == "string" {
		return "strings"
	}
	return kind
}

// render writes the page.
func render(fields []field) string {
	var b strings.Builder
	b.WriteString(head)
	for i, f := range fields {
		if !f.section {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.path[strings.LastIndexByte(f.path, '.')+1:], f.kind, cell(f))
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", f.path, f.text)
		if i+1 < len(fields) && !fields[i+1].section {
			b.WriteString("\n| field | value | |\n| --- | --- | --- |\n")
		}
	}
	return b.String()
}

func cell(f field) string {
	said := []string{f.text}
	if f.defaultValue != "" {
		said = append(said, "Default: "+f.defaultValue+".")
	}
	if f.example != "" {
		said = append(said, "Example: `"+f.example+"`")
	}
	said = slices.DeleteFunc(said, func(s string) bool { return s == "" })
	return strings.ReplaceAll(strings.Join(said, " "), "|", `\|`)
}
