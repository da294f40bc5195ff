package policies_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

const (
	ours = "github.com/ovenbird-dev/ovenbird/"
	sdk  = "github.com/aws/aws-sdk-go-v2/service/"
)

// calls are the IAM actions that a program's source needs, each with the places that need
// it. A call is a function, an interface's method or one of the SDK's own that takes the
// input of an operation: clients, paginators and waiters alike.
func calls(root, program string, without []string) (map[string][]string, error) {
	names, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps, Dir: root}, "./"+program)
	if err != nil {
		return nil, fmt.Errorf("list the packages of %s: %w", program, err)
	}
	var paths []string
	packages.Visit(names, nil, func(p *packages.Package) {
		if strings.HasPrefix(p.PkgPath, ours) && !slices.Contains(without, strings.TrimPrefix(p.PkgPath, ours)) {
			paths = append(paths, p.PkgPath)
		}
	})
	loaded, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Dir: root}, paths...)
	if err != nil {
		return nil, fmt.Errorf("load the packages of %s: %w", program, err)
	}
	used := map[string][]string{}
	for _, p := range loaded {
		if len(p.Errors) > 0 {
			return nil, fmt.Errorf("%s: %w", p.PkgPath, p.Errors[0])
		}
		for _, file := range p.Syntax {
			ast.Inspect(file, func(n ast.Node) bool {
				for _, action := range needs(p.TypesInfo, n) {
					at := p.Fset.Position(n.Pos())
					used[action] = append(used[action], fmt.Sprintf("%s:%d", filepath.Base(at.Filename), at.Line))
				}
				return true
			})
		}
	}
	return used, nil
}

// needs are the actions that one piece of source needs.
func needs(info *types.Info, n ast.Node) []string {
	switch n := n.(type) {
	case *ast.Ident:
		f, ok := info.Uses[n].(*types.Func)
		if !ok {
			return nil
		}
		return append(entails[method(f)], operations(f.Signature())...)
	case *ast.CompositeLit:
		var actions []string
		for _, element := range n.Elts {
			if pair, ok := element.(*ast.KeyValueExpr); ok {
				if key, ok := pair.Key.(*ast.Ident); ok {
					actions = append(actions, entails[name(info.TypeOf(n))+"."+key.Name]...)
				}
			}
		}
		return actions
	case *ast.SelectorExpr:
		if s := info.Selections[n]; s != nil && s.Kind() == types.FieldVal {
			return entails[name(s.Recv())+"."+n.Sel.Name]
		}
	}
	return nil
}

// operations are the actions whose input a function takes.
func operations(signature *types.Signature) []string {
	var actions []string
	for v := range signature.Params().Variables() {
		service, input, _ := strings.Cut(name(v.Type()), ".")
		if operation, ok := strings.CutSuffix(input, "Input"); ok && fromSDK(v.Type()) {
			action := cmp.Or(prefixes[service], service) + ":" + operation
			actions = append(actions, cmp.Or(renamed[action], action))
		}
	}
	return actions
}

func fromSDK(t types.Type) bool {
	named := named(t)
	return named != nil && named.Obj().Pkg() != nil && strings.HasPrefix(named.Obj().Pkg().Path(), sdk)
}

// method is PACKAGE.TYPE.METHOD or PACKAGE.FUNCTION.
func method(f *types.Func) string {
	if receiver := f.Signature().Recv(); receiver != nil {
		return name(receiver.Type()) + "." + f.Name()
	}
	if f.Pkg() == nil {
		return f.Name()
	}
	return short(f.Pkg()) + "." + f.Name()
}

// name is PACKAGE.TYPE of a type or a pointer to it; empty for one without a name.
func name(t types.Type) string {
	n := named(t)
	if n == nil || n.Obj().Pkg() == nil {
		return ""
	}
	return short(n.Obj().Pkg()) + "." + n.Obj().Name()
}

func named(t types.Type) *types.Named {
	if pointer, ok := types.Unalias(t).(*types.Pointer); ok {
		t = pointer.Elem()
	}
	n, _ := types.Unalias(t).(*types.Named)
	return n
}

// short is a package without what all of its kind begin with: ec2, internal/ststoken.
func short(p *types.Package) string {
	return strings.TrimPrefix(strings.TrimPrefix(p.Path(), ours), sdk)
}
