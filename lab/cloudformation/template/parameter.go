package template

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parameter is one of the template's.
type Parameter struct {
	Type, Description, AllowedPattern, ConstraintDescription string
	Default                                                  *string
	AllowedValues                                            []string
	MinLength, MaxLength                                     *int
	MinValue, MaxValue                                       *float64
	NoEcho                                                   bool

	pattern *regexp.Regexp
}

const ssmValue = "AWS::SSM::Parameter::Value<"

// ids are the types of parameters that name something of the account, and what the names
// begin with.
var ids = map[string]string{
	"AWS::EC2::Image::Id": "ami-", "AWS::EC2::Instance::Id": "i-", "AWS::EC2::SecurityGroup::Id": "sg-", "AWS::EC2::Subnet::Id": "subnet-",
	"AWS::EC2::Volume::Id": "vol-", "AWS::EC2::VPC::Id": "vpc-", "AWS::EC2::AvailabilityZone::Name": "", "AWS::EC2::KeyPair::KeyName": "",
	"AWS::EC2::SecurityGroup::GroupName": "", "AWS::Route53::HostedZone::Id": "",
}

// types of parameters that are not of anything in the account.
var types = []string{"String", "Number", "List<Number>", "CommaDelimitedList", "AWS::SSM::Parameter::Name"}

// SSM tells whether the parameter's value is the name of a parameter of SSM.
func (p Parameter) SSM() bool { return strings.HasPrefix(p.Type, ssmValue) }

// Kind is the type of the resolved value.
func (p Parameter) Kind() string {
	if inner, ok := strings.CutPrefix(p.Type, ssmValue); ok {
		return strings.TrimSuffix(inner, ">")
	}
	return p.Type
}

// List tells whether the value is a list, and Element is the type of its elements.
func (p Parameter) List() (element string, ok bool) {
	kind := p.Kind()
	if kind == "CommaDelimitedList" {
		return "String", true
	}
	inner, ok := strings.CutPrefix(kind, "List<")
	return strings.TrimSuffix(inner, ">"), ok
}

func knownType(name string) bool {
	p := Parameter{Type: name}
	element, isList := p.List()
	if !isList {
		element = p.Kind()
	}
	_, isID := ids[element]
	switch {
	case isList && p.Kind() != "CommaDelimitedList":
		return isID || element == "Number" || p.SSM() && element == "String"
	case isID:
		return true
	case p.SSM():
		return element == "String"
	}
	return slices.Contains(types, name)
}

func (t *Template) readParameters(root map[string]any) error {
	return t.each(root, "Parameters", maxParameters, func(path, name string, object map[string]any) error {
		if err := t.only(path, object, "template parameter property", "Type", "Description", "Default", "AllowedValues", "AllowedPattern",
			"ConstraintDescription", "MinLength", "MaxLength", "MinValue", "MaxValue", "NoEcho"); err != nil {
			return err
		}
		p, err := t.readParameter(path, name, object)
		if err != nil {
			return err
		}
		t.Parameters[name] = p
		if p.Default != nil && !p.SSM() {
			if err := p.Check(name, *p.Default); err != nil && *p.Default != "" {
				return t.malformed(path+"/Default", "the Default of parameter %s is refused: %v", name, err)
			}
		}
		return nil
	})
}

func (t *Template) readParameter(path, name string, object map[string]any) (p Parameter, err error) {
	for key, into := range map[string]*string{
		"Type": &p.Type, "Description": &p.Description, "AllowedPattern": &p.AllowedPattern, "ConstraintDescription": &p.ConstraintDescription,
	} {
		if *into, err = t.text(path, object, key); err != nil {
			return p, err
		}
	}
	switch {
	case p.Type == "":
		return p, t.malformed(path, "Every Parameters object must contain a Type member. [%s]", name)
	case !knownType(p.Type):
		return p, t.malformed(path+"/Type", "Unrecognized parameter type: %s", p.Type)
	}
	if text, ok, err := t.scalar(path, object, "Default"); err != nil {
		return p, err
	} else if ok {
		p.Default = &text
	}
	if text, ok, err := t.scalar(path, object, "NoEcho"); err != nil {
		return p, err
	} else if ok {
		p.NoEcho = text == "true"
	}
	if p.pattern, err = regexp.Compile(`^(?:` + p.AllowedPattern + `)$`); err != nil {
		return p, t.malformed(path+"/AllowedPattern", "the AllowedPattern of parameter %s is none that the lab can read: %v", name, err)
	}
	if v, ok := object["AllowedValues"]; ok {
		list, isList := v.([]any)
		if !isList {
			return p, t.malformed(path+"/AllowedValues", "AllowedValues must be a list")
		}
		for _, v := range list {
			text, isText := Text(v)
			if !isText {
				return p, t.malformed(path+"/AllowedValues", "AllowedValues must be a list of strings")
			}
			p.AllowedValues = append(p.AllowedValues, text)
		}
	}
	return p, t.readLimits(path, object, &p)
}

func (t *Template) readLimits(path string, object map[string]any, p *Parameter) error {
	for key, into := range map[string]**int{"MinLength": &p.MinLength, "MaxLength": &p.MaxLength} {
		text, ok, err := t.scalar(path, object, key)
		if err != nil {
			return err
		}
		if n, bad := strconv.Atoi(text); ok && bad == nil {
			*into = &n
		} else if ok {
			return t.malformed(path+"/"+key, "%s must be a number", key)
		}
	}
	for key, into := range map[string]**float64{"MinValue": &p.MinValue, "MaxValue": &p.MaxValue} {
		text, ok, err := t.scalar(path, object, key)
		if err != nil {
			return err
		}
		if n, bad := strconv.ParseFloat(text, 64); ok && bad == nil {
			*into = &n
		} else if ok {
			return t.malformed(path+"/"+key, "%s must be a number", key)
		}
	}
	return nil
}

// Check holds a value to the parameter's type and constraints.
func (p Parameter) Check(name, value string) error {
	element, isList := p.List()
	if !isList {
		return p.check(name, p.Kind(), value)
	}
	for _, v := range p.Value(value).([]any) { //nolint:forcetypeassert // a list's
		if err := p.check(name, element, fmt.Sprint(v)); err != nil {
			return err
		}
	}
	return nil
}

// Value is what Ref gives for the parameter with this value. As on AWS a list that nothing is
// given for has one empty element.
func (p Parameter) Value(value string) any {
	if _, isList := p.List(); !isList {
		return value
	}
	var list []any
	for part := range strings.SplitSeq(value, ",") {
		list = append(list, strings.TrimSpace(part))
	}
	return list
}

func (p Parameter) check(name, kind, value string) error {
	if prefix, ok := ids[kind]; ok && (value == "" || !strings.HasPrefix(value, prefix)) {
		return fmt.Errorf("Parameter validation failed: parameter value %s for parameter name %s does not exist", value, name) //nolint:staticcheck // CloudFormation's words
	}
	said := p.constraint(kind, value)
	switch {
	case said == "":
		return nil
	case p.ConstraintDescription != "":
		return fmt.Errorf("Parameter %s failed to satisfy constraint: %s", name, p.ConstraintDescription) //nolint:staticcheck // CloudFormation's words
	}
	return fmt.Errorf("Parameter '%s' must %s", name, said) //nolint:staticcheck // CloudFormation's words
}

// constraint says which constraint a value does not meet.
func (p Parameter) constraint(kind, value string) string {
	if kind == "Number" {
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
			return "be a number"
		case p.MinValue != nil && n < *p.MinValue:
			return fmt.Sprintf("be a number not less than %v", *p.MinValue)
		case p.MaxValue != nil && n > *p.MaxValue:
			return fmt.Sprintf("be a number not greater than %v", *p.MaxValue)
		}
	}
	length := utf8.RuneCountInString(value)
	switch {
	case len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, value):
		return fmt.Sprintf("be one of AllowedValues [%s]", strings.Join(p.AllowedValues, ", "))
	case p.AllowedPattern != "" && !p.pattern.MatchString(value):
		return "match pattern " + p.AllowedPattern
	case p.MinLength != nil && length < *p.MinLength:
		return fmt.Sprintf("contain at least %d characters", *p.MinLength)
	case p.MaxLength != nil && length > *p.MaxLength:
		return fmt.Sprintf("contain at most %d characters", *p.MaxLength)
	}
	return ""
}

// Given completes values that were given with defaults, and refuses those that the template
// does not have or does not allow.
func (t *Template) Given(given map[string]string) (map[string]string, error) {
	var unknown, missing []string
	for name := range given {
		if _, ok := t.Parameters[name]; !ok {
			unknown = append(unknown, name)
		}
	}
	values := map[string]string{}
	for name, p := range t.Parameters {
		value, ok := given[name]
		switch {
		case ok:
			values[name] = value
		case p.Default != nil:
			values[name] = *p.Default
		default:
			missing = append(missing, name)
		}
	}
	slices.Sort(unknown)
	slices.Sort(missing)
	switch {
	case len(unknown) > 0:
		return nil, fmt.Errorf("Parameters: [%s] do not exist in the template", strings.Join(unknown, ", ")) //nolint:staticcheck // CloudFormation's words
	case len(missing) > 0:
		return nil, fmt.Errorf("Parameters: [%s] must have values", strings.Join(missing, ", ")) //nolint:staticcheck // CloudFormation's words
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p := t.Parameters[name]
		if p.SSM() {
			p.Type = "String" // the constraints are those of the name
		}
		if err := p.Check(name, values[name]); err != nil {
			return nil, err
		}
	}
	return values, nil
}
