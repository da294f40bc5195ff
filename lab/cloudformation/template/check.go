package template

import (
	"maps"
	"slices"
	"strings"
)

// functions are what the lab knows, and how many elements the list of their argument has;
// nil: the argument need not be a list.
var functions = map[string][]int{
	"Ref": nil, "Condition": nil, "Fn::GetAtt": nil, "Fn::Sub": nil, "Fn::Base64": nil, "Fn::GetAZs": nil, "Fn::ImportValue": nil,
	"Fn::If": {3, 3}, "Fn::Join": {2, 2}, "Fn::Select": {2, 2}, "Fn::Split": {2, 2}, "Fn::FindInMap": {3, 3}, "Fn::Cidr": {2, 3},
	"Fn::Equals": {2, 2}, "Fn::And": {2, 10}, "Fn::Or": {2, 10}, "Fn::Not": {1, 1},
	"Fn::Contains": {2, 2}, "Fn::EachMemberEquals": {2, 2}, "Fn::EachMemberIn": {2, 2}, "Fn::RefAll": nil, "Fn::ValueOf": {2, 2}, "Fn::ValueOfAll": {2, 2},
}

// ofRules are the functions that only rules may use.
var ofRules = []string{"Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn", "Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll"}

// deciding are the functions that only conditions and rules may use.
var deciding = []string{"Fn::Equals", "Fn::And", "Fn::Or", "Fn::Not"}

func known(name string) bool {
	_, ok := functions[name]
	return ok
}

// pseudo are the pseudo parameters.
var pseudo = []string{
	"AWS::AccountId", "AWS::NotificationARNs", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackId", "AWS::StackName", "AWS::URLSuffix",
}

// place is where a value stands.
type place int

const (
	inConditions place = iota
	inRules
	inResources
	inOutputs
)

// Check finds what is wrong with a template whatever its parameters are: functions with
// arguments that they do not take, references to nothing, cycles. supports tells whether a
// resource type has an attribute.
func (t *Template) Check(supports func(kind, attribute string) bool) error {
	c := checker{t, supports}
	for _, name := range slices.Sorted(maps.Keys(t.Conditions)) {
		if err := c.value("/Conditions/"+name, t.Conditions[name], inConditions); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Rules)) {
		rule, path := t.Rules[name], "/Rules/"+name
		if err := c.value(path+"/RuleCondition", rule.Condition, inRules); err != nil {
			return err
		}
		for i, a := range rule.Assertions {
			if err := c.value(element(path+"/Assertions", i)+"/Assert", a.Assert, inRules); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Resources)) {
		if err := c.resource(name, t.Resources[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Outputs)) {
		o, path := t.Outputs[name], "/Outputs/"+name
		if err := c.condition(path, o.Condition); err != nil {
			return err
		}
		if err := c.value(path+"/Value", o.Value, inOutputs); err != nil {
			return err
		}
		if err := c.value(path+"/Export/Name", o.Export, inOutputs); err != nil {
			return err
		}
	}
	return t.cycle()
}

type checker struct {
	*Template
	supports func(kind, attribute string) bool
}

func (c checker) condition(path, name string) error {
	if _, ok := c.Conditions[name]; name != "" && !ok {
		return c.malformed(path+"/Condition", "Unresolved condition dependency %s in the template", name)
	}
	return nil
}

func (c checker) resource(name string, r Resource) error {
	path := "/Resources/" + name
	if err := c.condition(path, r.Condition); err != nil {
		return err
	}
	for _, other := range r.DependsOn {
		if _, ok := c.Resources[other]; !ok {
			return c.malformed(path+"/DependsOn", "Unresolved resource dependencies [%s] in the Resources block of the template", other)
		}
	}
	for part, v := range map[string]map[string]any{
		"Properties": r.Properties, "CreationPolicy": r.CreationPolicy, "UpdatePolicy": r.UpdatePolicy, "Metadata": r.Metadata,
	} {
		for key, value := range v {
			if err := c.value(path+"/"+part+"/"+key, value, inResources); err != nil {
				return err
			}
		}
	}
	return nil
}

// value checks a value and all in it.
func (c checker) value(path string, v any, at place) error {
	switch v := v.(type) {
	case []any:
		for i, value := range v {
			if err := c.value(element(path, i), value, at); err != nil {
				return err
			}
		}
	case string:
		return c.dynamic(path, v)
	case map[string]any:
		if name, arg, ok := Call(v); ok {
			return c.call(path, name, arg, at)
		}
		if other, ok := v["Condition"].(string); ok && len(v) == 1 && (at == inConditions || at == inRules) {
			return c.condition(path, other)
		}
		for key, value := range v {
			if key == "Ref" || strings.HasPrefix(key, "Fn::") {
				return c.malformed(path, "[%s] a function stands alone: %s has other keys beside it", path, key)
			}
			if err := c.value(path+"/"+key, value, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// dynamic checks the dynamic references in a text.
func (c checker) dynamic(path, text string) error {
	for _, m := range reference.FindAllStringSubmatch(text, -1) {
		if m[1] != "ssm" {
			return c.malformed(path, "the lab does not support dynamic references to %s", m[1])
		}
	}
	if strings.Count(text, "{{resolve:") != len(reference.FindAllString(text, -1)) {
		return c.malformed(path, "a dynamic reference must be {{resolve:SERVICE:KEY}}")
	}
	return nil
}

func (c checker) call(path, name string, arg any, at place) error {
	size, ok := functions[name]
	switch {
	case !ok:
		return c.malformed(path, "the lab does not support the function %s", name)
	case slices.Contains(ofRules, name) && at != inRules, slices.Contains(deciding, name) && at != inRules && at != inConditions:
		return c.malformed(path, "the function %s cannot be used here", name)
	case (name == "Fn::GetAtt" || name == "Fn::ImportValue") && (at == inRules || at == inConditions):
		return c.malformed(path, "the function %s cannot be used here", name)
	}
	list, isList := arg.([]any)
	if _, _, isCall := Call(arg); size != nil && !isList && (!isCall || name == "Fn::If") {
		return c.malformed(path, "%s needs a list", name)
	}
	if size != nil && isList && (len(list) < size[0] || len(list) > size[1]) {
		return c.malformed(path, "%s needs a list of %d to %d elements", name, size[0], size[1])
	}
	switch name {
	case "Ref":
		text, _ := arg.(string)
		return c.ref(path, text, at)
	case "Fn::GetAtt":
		return c.getAtt(path, arg)
	case "Fn::Sub":
		return c.sub(path, arg, at)
	case "Fn::If":
		condition, _ := list[0].(string)
		if _, ok := c.Conditions[condition]; !ok {
			return c.malformed(path, "Unresolved condition dependency %v in Fn::If", list[0])
		}
		list = list[1:]
		arg = list
	case "Fn::FindInMap":
		if mapping, ok := list[0].(string); ok && c.Mappings[mapping] == nil {
			return c.fail(path, "Template error: Mapping named '%s' is not present in the 'Mappings' section of template.", mapping)
		}
	case "Fn::ValueOf":
		if parameter, ok := list[0].(string); !ok || !c.isParameter(parameter) {
			return c.malformed(path, "Fn::ValueOf needs the name of a parameter and an attribute")
		}
		return nil
	}
	return c.value(path+"/"+name, arg, at)
}

func (c checker) isParameter(name string) bool { _, ok := c.Parameters[name]; return ok }

func (c checker) ref(path, name string, at place) error {
	_, isResource := c.Resources[name]
	switch {
	case slices.Contains(pseudo, name) || c.isParameter(name):
	case isResource && (at == inResources || at == inOutputs):
	case isResource:
		return c.malformed(path, "Unresolved dependencies [%s]. Cannot reference resources in the Conditions or Rules block of the template", name)
	default:
		return c.malformed(path, "Unresolved resource dependencies [%s] in the %s block of the template", name, strings.SplitN(path, "/", 3)[1])
	}
	return nil
}

func (c checker) getAtt(path string, arg any) error {
	resource, attribute, err := GetAtt(arg)
	if err != nil {
		return c.fail(path, "%v", err)
	}
	r, ok := c.Resources[resource]
	switch {
	case !ok:
		return c.fail(path, "Template error: instance of Fn::GetAtt references undefined resource %s", resource)
	case !c.supports(r.Type, attribute):
		return c.fail(path, "Template error: resource %s does not support attribute type %s in Fn::GetAtt", resource, attribute)
	}
	return nil
}

func (c checker) sub(path string, arg any, at place) error {
	text, own, err := Sub(arg)
	if err != nil {
		return c.fail(path, "%v", err)
	}
	for key, v := range own {
		if err := c.value(path+"/Fn::Sub/1/"+key, v, at); err != nil {
			return err
		}
	}
	if err := c.dynamic(path, variable.ReplaceAllString(text, "x")); err != nil {
		return err
	}
	for _, name := range variables(text) {
		if _, ok := own[name]; ok {
			continue
		}
		if strings.Contains(name, ".") {
			err = c.getAtt(path, name)
		} else {
			err = c.ref(path, name, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// variables are the names in the text of Fn::Sub.
func variables(text string) []string {
	var names []string
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		if name := strings.TrimSpace(m[1]); !strings.HasPrefix(name, "!") {
			names = append(names, name)
		}
	}
	return names
}
