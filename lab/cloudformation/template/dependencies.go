package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Uses are what a value refers to, resources and parameters: by name the attributes, "" for
// Ref. With conditions only the branches of Fn::If that are taken count.
func Uses(v any, conditions map[string]bool) map[string][]string {
	found := map[string][]string{}
	uses(v, conditions, func(name, attribute string) {
		if !slices.Contains(found[name], attribute) {
			found[name] = append(found[name], attribute)
		}
	})
	return found
}

func uses(v any, conditions map[string]bool, found func(name, attribute string)) {
	switch v := v.(type) {
	case []any:
		for _, value := range v {
			uses(value, conditions, found)
		}
	case map[string]any:
		name, arg, ok := Call(v)
		if !ok {
			for _, value := range v {
				uses(value, conditions, found)
			}
			return
		}
		usesOf(name, arg, conditions, found)
	}
}

func usesOf(name string, arg any, conditions map[string]bool, found func(name, attribute string)) {
	list, _ := arg.([]any)
	switch {
	case name == "Ref":
		found(fmt.Sprint(arg), "")
	case name == "Fn::GetAtt":
		resource, attribute, _ := GetAtt(arg)
		found(resource, attribute)
	case name == "Fn::Sub":
		text, own, _ := Sub(arg)
		for _, name := range variables(text) {
			if _, ok := own[name]; !ok {
				resource, attribute, _ := strings.Cut(name, ".")
				found(resource, attribute)
			}
		}
		uses(own, conditions, found)
	case name == "Fn::If" && len(list) == 3 && conditions != nil:
		condition, _ := list[0].(string)
		if conditions[condition] {
			uses(list[1], conditions, found)
		} else {
			uses(list[2], conditions, found)
		}
	default:
		uses(arg, conditions, found)
	}
}

// Dependencies are the resources that must be there before each resource: those that it
// refers to or names in DependsOn. With conditions only resources that are made count.
func (t *Template) Dependencies(conditions map[string]bool) map[string][]string {
	all := map[string][]string{}
	for name, r := range t.Resources {
		if conditions != nil && !t.Exists(name, conditions) {
			continue
		}
		on := map[string]bool{}
		for _, v := range []map[string]any{r.Properties, r.CreationPolicy, r.UpdatePolicy, r.Metadata} {
			for other := range Uses(v, conditions) {
				on[other] = true
			}
		}
		for _, other := range r.DependsOn {
			on[other] = true
		}
		all[name] = []string{}
		for _, other := range slices.Sorted(maps.Keys(on)) {
			if _, ok := t.Resources[other]; ok && (conditions == nil || t.Exists(other, conditions)) {
				all[name] = append(all[name], other)
			}
		}
	}
	return all
}

// Unresolved finds a reference to a resource that is not made under the conditions.
func (t *Template) Unresolved(conditions map[string]bool) error {
	missing := func(path string, v any) error {
		for other := range Uses(v, conditions) {
			if _, ok := t.Resources[other]; ok && !t.Exists(other, conditions) {
				return t.malformed(path, "Unresolved resource dependencies [%s] in the %s block of the template", other, strings.SplitN(path, "/", 3)[1])
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(t.Resources)) {
		r := t.Resources[name]
		if !t.Exists(name, conditions) {
			continue
		}
		for _, v := range []map[string]any{r.Properties, r.CreationPolicy, r.UpdatePolicy, r.Metadata} {
			if err := missing("/Resources/"+name, v); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Outputs)) {
		if o := t.Outputs[name]; o.Condition == "" || conditions[o.Condition] {
			if err := missing("/Outputs/"+name, o.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// cycle finds resources that depend on each other, whatever the conditions.
func (t *Template) cycle() error {
	left := t.Dependencies(nil)
	for {
		progress := false
		for name, on := range left {
			if !slices.ContainsFunc(on, func(other string) bool { _, ok := left[other]; return ok }) {
				delete(left, name)
				progress = true
			}
		}
		switch {
		case len(left) == 0:
			return nil
		case !progress:
			names := slices.Sorted(maps.Keys(left))
			return t.fail("/Resources/"+names[0], "Circular dependency between resources: [%s]", strings.Join(names, ", "))
		}
	}
}
