package template

import (
	"fmt"
	"slices"
)

func (t *Template) readResources(root map[string]any) error {
	err := t.each(root, "Resources", maxResources, func(path, name string, object map[string]any) error {
		if err := t.only(path, object, "template resource property", "Type", "Properties", "DependsOn", "Condition", "DeletionPolicy",
			"UpdateReplacePolicy", "CreationPolicy", "UpdatePolicy", "Metadata"); err != nil {
			return err
		}
		r, err := t.readResource(path, object)
		t.Resources[name] = r
		return err
	})
	if err == nil && len(t.Resources) == 0 {
		return t.malformed("", "At least one Resources member must be defined.")
	}
	return err
}

func (t *Template) readResource(path string, object map[string]any) (r Resource, err error) {
	for key, into := range map[string]*string{
		"Type": &r.Type, "Condition": &r.Condition, "DeletionPolicy": &r.DeletionPolicy, "UpdateReplacePolicy": &r.UpdateReplacePolicy,
	} {
		if *into, err = t.text(path, object, key); err != nil {
			return r, err
		}
	}
	for key, into := range map[string]*map[string]any{
		"Properties": &r.Properties, "CreationPolicy": &r.CreationPolicy, "UpdatePolicy": &r.UpdatePolicy, "Metadata": &r.Metadata,
	} {
		if *into, err = t.object(path, object, key); err != nil {
			return r, err
		}
	}
	switch on := object["DependsOn"].(type) {
	case nil:
	case string:
		r.DependsOn = []string{on}
	case []any:
		for _, v := range on {
			name, ok := v.(string)
			if !ok {
				return r, t.malformed(path+"/DependsOn", "DependsOn must be a string or a list of strings")
			}
			r.DependsOn = append(r.DependsOn, name)
		}
	default:
		return r, t.malformed(path+"/DependsOn", "DependsOn must be a string or a list of strings")
	}
	switch {
	case r.Type == "":
		return r, t.malformed(path, "[%s] Every Resources object must contain a Type member.", path)
	case !slices.Contains([]string{"", Delete, Retain, RetainExceptOnCreate, Snapshot}, r.DeletionPolicy):
		return r, t.malformed(path+"/DeletionPolicy", "Unrecognized DeletionPolicy %s", r.DeletionPolicy)
	case !slices.Contains([]string{"", Delete, Retain, Snapshot}, r.UpdateReplacePolicy):
		return r, t.malformed(path+"/UpdateReplacePolicy", "Unrecognized UpdateReplacePolicy %s", r.UpdateReplacePolicy)
	}
	return r, t.policies(path, r)
}

// policies refuses parts of CreationPolicy and UpdatePolicy that CloudFormation does not have.
// What is in a part is up to the resource type.
func (t *Template) policies(path string, r Resource) error {
	if err := t.only(path+"/CreationPolicy", r.CreationPolicy, "CreationPolicy attribute", "ResourceSignal", "AutoScalingCreationPolicy"); err != nil {
		return err
	}
	return t.only(path+"/UpdatePolicy", r.UpdatePolicy, "UpdatePolicy attribute",
		"AutoScalingRollingUpdate", "AutoScalingReplacingUpdate", "AutoScalingScheduledAction")
}

func (t *Template) readOutputs(root map[string]any) error {
	return t.each(root, "Outputs", maxOutputs, func(path, name string, object map[string]any) error {
		if err := t.only(path, object, "output property", "Description", "Value", "Condition", "Export"); err != nil {
			return err
		}
		o := Output{Value: object["Value"]}
		if o.Value == nil {
			return t.malformed(path, "Output %s must have a Value", name)
		}
		var err error
		if o.Description, err = t.text(path, object, "Description"); err != nil {
			return err
		}
		if o.Condition, err = t.text(path, object, "Condition"); err != nil {
			return err
		}
		export, err := t.object(path, object, "Export")
		if err != nil {
			return err
		}
		if export != nil {
			if err := t.only(path+"/Export", export, "export property", "Name"); err != nil {
				return err
			}
			if o.Export = export["Name"]; o.Export == nil {
				return t.malformed(path+"/Export", "The Export of output %s must have a Name", name)
			}
		}
		t.Outputs[name] = o
		return nil
	})
}

// Exists tells whether a resource is made under the conditions.
func (t *Template) Exists(name string, conditions map[string]bool) bool {
	r, ok := t.Resources[name]
	return ok && (r.Condition == "" || conditions[r.Condition])
}

// path of an element of a list.
func element(path string, i int) string { return fmt.Sprintf("%s/%d", path, i) }
