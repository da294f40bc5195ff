package template

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// scope is one with a bit of everything.
func scope(t *testing.T, body string) *Scope {
	t.Helper()
	parsed, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	s := &Scope{
		Template: parsed, Parameters: map[string]any{"Name": "x", "List": []any{"a", "b"}, "Vpc": "vpc-1", "Number": "3"},
		Pseudo:    map[string]any{"AWS::Region": "us-west-2", "AWS::StackName": "s"},
		Ref:       func(r string) (any, error) { return "id-of-" + r, nil },
		Attribute: func(r, a string) (any, error) { return r + "'s " + a, nil },
		Import: func(name string) (string, error) {
			if name == "none" {
				return "", errors.New("No export named none found.")
			}
			return "imported " + name, nil
		},
		Dynamic: func(service, key string) (string, error) { return service + "=" + key, nil },
		Zones:   func(region string) []string { return []string{region + "a", region + "b"} },
		ValueOf: func(kind, value, attribute string) (string, error) { return kind + " " + value + " " + attribute, nil },
	}
	if _, err := s.Evaluate(); err != nil {
		t.Fatal(err)
	}
	return s
}

const base = `
Parameters:
  Name: {Type: String}
  List: {Type: CommaDelimitedList}
  Vpc: {Type: "AWS::EC2::VPC::Id"}
  Number: {Type: Number}
Mappings:
  Sizes: {small: {cpu: 1, zones: [a, b]}}
Conditions:
  Yes: !Equals [!Ref Name, x]
  No: !Not [!Condition Yes]
  Both: !And [!Condition Yes, !Or [!Condition No, !Equals [!Ref Number, 3]]]
Resources:
  R: {Type: A}
`

func TestFunctionsInTheirShortFormsAndTheirLongOnes(t *testing.T) {
	tests := []struct {
		value string
		want  any
	}{
		{`!Ref Name`, "x"},
		{`{"Ref": "R"}`, "id-of-R"},
		{`!Ref List`, []any{"a", "b"}},
		{`!GetAtt R.Some.Thing`, "R's Some.Thing"},
		{`{"Fn::GetAtt": ["R", "Arn"]}`, "R's Arn"},
		{`!Sub "${Name}-${R}-${R.Arn}-${AWS::Region}-${!Literal}"`, "x-id-of-R-R's Arn-us-west-2-${Literal}"},
		{`!Sub ["${A}${Name}", {A: !Join ["+", !Ref List]}]`, "a+bx"},
		{`!Join [",", [a, 1, true]]`, "a,1,true"},
		{`!Select [1, !Ref List]`, "b"},
		{`!Select ["0", !Split ["|", "p|q"]]`, "p"},
		{`!Split [",", "a,b"]`, []any{"a", "b"}},
		{`!FindInMap [Sizes, small, cpu]`, 1},
		{`!FindInMap [Sizes, small, zones]`, []any{"a", "b"}},
		{`!If [Yes, a, b]`, "a"},
		{`!If [No, a, {b: !Ref Name}]`, map[string]any{"b": "x"}},
		{`[!If [No, a, !Ref "AWS::NoValue"], c]`, []any{"c"}},
		{`{a: !Ref "AWS::NoValue", b: 1}`, map[string]any{"b": 1}},
		{`!If [Both, a, b]`, "a"},
		{`!Base64 hello`, "aGVsbG8="},
		{`{"Fn::Base64": {"Fn::Sub": "${Name}"}}`, "eA=="},
		{`!GetAZs ""`, []any{"us-west-2a", "us-west-2b"}},
		{`!GetAZs {Ref: "AWS::Region"}`, []any{"us-west-2a", "us-west-2b"}},
		{`!ImportValue net`, "imported net"},
		{`!Cidr ["10.0.0.0/16", 3, 8]`, []any{"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"}},
		{`!Select [1, !Cidr ["fd00:1::/56", 2, 64]]`, "fd00:1:0:1::/64"},
		{`"{{resolve:ssm:/a/b}}-c"`, "ssm=/a/b-c"},
		{`!Sub "{{resolve:ssm:/${Name}}}"`, "ssm=/x"},
		{`2012-10-17`, "2012-10-17"},
		{`012345678901`, "012345678901"},
		{`'null'`, "null"},
	}
	for _, tt := range tests {
		s := scope(t, base+"  V: {Type: A, Properties: {P: "+tt.value+"}}\n")
		if err := s.Template.Check(func(string, string) bool { return true }); err != nil {
			t.Errorf("%s: %v", tt.value, err)
			continue
		}
		if got, err := s.Resolve(s.Template.Resources["V"].Properties["P"]); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %#v, %v, want %#v", tt.value, got, err, tt.want)
		}
	}
}

func TestFunctionsThatCannotBeEvaluated(t *testing.T) {
	tests := []struct{ value, want string }{
		{`!Select [2, !Ref List]`, "Fn::Select cannot select nonexistent value at index 2"},
		{`!FindInMap [Sizes, large, cpu]`, "Unable to get mapping for Sizes::large::cpu"},
		{`!ImportValue none`, "No export named none found."},
		{`!Cidr ["10.0.0.0/24", 3, 8]`, "Fn::Cidr cannot make 3 blocks"},
		{`!Sub "${List}"`, "variable List in Fn::Sub expression does not resolve to a string"},
		{`!Join [",", text]`, "every Fn::Join object requires"},
	}
	for _, tt := range tests {
		s := scope(t, base+"  V: {Type: A, Properties: {P: "+tt.value+"}}\n")
		if _, err := s.Resolve(s.Template.Resources["V"].Properties["P"]); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.value, err, tt.want)
		}
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"not YAML", "a: [", "YAML not well-formed"},
		{"no resources", "Parameters: {}", "At least one Resources member must be defined."},
		{"a section of its own", "Resources: {R: {Type: A}}\nFoo: {}", "Invalid template property or properties [Foo] (line 2)"},
		{"a transform", "Transform: AWS::LanguageExtensions\nResources: {R: {Type: A}}", "[Transform] (line 1)"},
		{"an attribute of its own", "Resources:\n  R: {Type: A, Foo: 1}", "Invalid template resource property [Foo] (line 2)"},
		{"no type", "Resources: {R: {Properties: {}}}", "Every Resources object must contain a Type member"},
		{"a null", "Resources: {R: {Type: A, Properties: {P: }}}", "'null' values are not allowed"},
		{"a key twice", "Resources: {R: {Type: A, Type: B}}", "Duplicate key Type"},
		{"an alias", "Resources: {R: {Type: A, Properties: &p {}}, S: {Type: A, Properties: *p}}", "anchors"},
		{"an unknown function", "Resources: {R: {Type: A, Properties: {P: !Foo x}}}", "the lab does not support the function !Foo"},
		{"an unknown long function", `{"Resources": {"R": {"Type": "A", "Properties": {"P": {"Fn::Transform": {}}}}}}`, "Fn::Transform"},
		{"a reference to nothing", "Resources: {R: {Type: A, Properties: {P: !Ref X}}}", "Unresolved resource dependencies [X] in the Resources block of the template (line 1)"},
		{"one in Fn::Sub", "Resources: {R: {Type: A, Properties: {P: !Sub 'a${X}'}}}", "[X]"},
		{"a dependency on nothing", "Resources: {R: {Type: A, DependsOn: X}}", "[X]"},
		{"an attribute of nothing", "Resources: {R: {Type: A, Properties: {P: !GetAtt X.Arn}}}", "references undefined resource X"},
		{"an unknown attribute", "Resources: {R: {Type: A}, S: {Type: A, Properties: {P: !GetAtt R.Foo}}}", "resource R does not support attribute type Foo in Fn::GetAtt"},
		{"a cycle", "Resources: {R: {Type: A, Properties: {P: !Ref S}}, S: {Type: A, DependsOn: R}}", "Circular dependency between resources: [R, S]"},
		{"an unknown condition", "Resources: {R: {Type: A, Condition: X}}", "Unresolved condition dependency X"},
		{"one in Fn::If", "Resources: {R: {Type: A, Properties: {P: !If [X, a, b]}}}", "Unresolved condition dependency X"},
		{"a resource in a condition", "Conditions: {C: !Equals [!Ref R, a]}\nResources: {R: {Type: A}}", "Cannot reference resources in the Conditions"},
		{"a function of conditions in a resource", "Resources: {R: {Type: A, Properties: {P: !Equals [a, b]}}}", "the function Fn::Equals cannot be used here"},
		{"a function of rules in a condition", "Conditions: {C: !Contains [[a], a]}\nResources: {R: {Type: A}}", "the function Fn::Contains cannot be used here"},
		{"too few arguments", "Resources: {R: {Type: A, Properties: {P: !Join [a]}}}", "Fn::Join needs a list of 2 to 2 elements"},
		{"a secret", "Resources: {R: {Type: A, Properties: {P: '{{resolve:secretsmanager:x}}'}}}", "dynamic references to secretsmanager"},
		{"a policy of its own", "Resources: {R: {Type: A, UpdatePolicy: {CodeDeploy: {}}}}", "Invalid UpdatePolicy attribute [CodeDeploy]"},
		{"a deletion policy of its own", "Resources: {R: {Type: A, DeletionPolicy: Keep}}", "Unrecognized DeletionPolicy Keep"},
		{"an unknown mapping", "Resources: {R: {Type: A, Properties: {P: !FindInMap [M, a, b]}}}", "Mapping named 'M' is not present"},
		{"a parameter of an unknown type", "Parameters: {P: {Type: Text}}\nResources: {R: {Type: A}}", "Unrecognized parameter type: Text"},
		{"a default that is not allowed", "Parameters: {P: {Type: String, Default: c, AllowedValues: [a, b]}}\nResources: {R: {Type: A}}", "Default of parameter P"},
		{"a function with company", "Resources: {R: {Type: A, Properties: {P: {Ref: R, Other: 1}}}}", "a function stands alone"},
	}
	for _, tt := range tests {
		parsed, err := Parse(tt.body)
		if err == nil {
			err = parsed.Check(func(_, attribute string) bool { return attribute == "Arn" })
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestParametersAreHeldToTheirConstraints(t *testing.T) {
	tests := []struct{ declared, value, want string }{
		{"{Type: String}", "x", ""},
		{"{Type: String, AllowedValues: [a, b]}", "c", "must be one of AllowedValues [a, b]"},
		{"{Type: String, AllowedPattern: '[a-z]+'}", "A", "must match pattern [a-z]+"},
		{"{Type: String, AllowedPattern: '[a-z]+'}", "abc1", "must match pattern"},
		{"{Type: String, AllowedPattern: '[a-z]+', ConstraintDescription: only letters}", "1", "Parameter P failed to satisfy constraint: only letters"},
		{"{Type: String, MinLength: 2}", "a", "contain at least 2 characters"},
		{"{Type: String, MaxLength: 2}", "aaa", "contain at most 2 characters"},
		{"{Type: Number}", "many", "be a number"},
		{"{Type: Number, MinValue: 2, MaxValue: 4}", "1", "not less than 2"},
		{"{Type: Number, MinValue: 2, MaxValue: 4}", "4.5", "not greater than 4"},
		{"{Type: List<Number>}", "1, x", "be a number"},
		{"{Type: CommaDelimitedList, AllowedPattern: '[a-z]'}", "a,bb", "match pattern"},
		{"{Type: CommaDelimitedList, AllowedPattern: '([a-z])?'}", "", ""},
		{"{Type: 'AWS::EC2::VPC::Id'}", "vpc-0123456789abcdef0", ""},
		{"{Type: 'AWS::EC2::VPC::Id'}", "subnet-1", "parameter value subnet-1 for parameter name P does not exist"},
		{"{Type: 'List<AWS::EC2::Subnet::Id>'}", "subnet-1,sg-1", "parameter value sg-1"},
		{"{Type: 'AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>', AllowedPattern: '/.*'}", "ami", "match pattern"},
	}
	for _, tt := range tests {
		parsed, err := Parse("Parameters: {P: " + tt.declared + "}\nResources: {R: {Type: A}}")
		if err == nil {
			_, err = parsed.Given(map[string]string{"P": tt.value})
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %q: got %v, want %q", tt.declared, tt.value, err, tt.want)
		}
	}
	parsed, err := Parse("Parameters: {P: {Type: String}, Q: {Type: String, Default: q}}\nResources: {R: {Type: A}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Given(nil); err == nil || err.Error() != "Parameters: [P] must have values" {
		t.Error(err)
	}
	if _, err := parsed.Given(map[string]string{"P": "p", "X": "x"}); err == nil || err.Error() != "Parameters: [X] do not exist in the template" {
		t.Error(err)
	}
	if got, err := parsed.Given(map[string]string{"P": "p"}); err != nil || fmt.Sprint(got) != "map[P:p Q:q]" {
		t.Error(got, err)
	}
}

func TestRulesFailEarlyWithTheirDescription(t *testing.T) {
	tests := []struct{ rule, want string }{
		{`Assertions: [{Assert: !Contains [[x, y], !Ref Name]}]`, ""},
		{`Assertions: [{Assert: !Contains [[y], !Ref Name], AssertDescription: wrong name}]`, "rule Rule: wrong name"},
		{`{RuleCondition: !Equals [!Ref Name, z], Assertions: [{Assert: !Equals [a, b]}]}`, ""},
		{`Assertions: [{Assert: !EachMemberEquals [!Ref List, a]}]`, "assertion 1 does not hold"},
		{`Assertions: [{Assert: !EachMemberIn [!Ref List, [a, b, c]]}]`, ""},
		{`Assertions: [{Assert: !EachMemberIn [!RefAll "AWS::EC2::VPC::Id", [vpc-1]]}]`, ""},
		{`Assertions: [{Assert: !Equals [!ValueOf [Vpc, Tags.Env], "AWS::EC2::VPC::Id vpc-1 Tags.Env"]}]`, ""},
		{`Assertions: [{Assert: !EachMemberIn [!ValueOfAll ["AWS::EC2::VPC::Id", X], [nothing]]}]`, "does not hold"},
		{`Assertions: [{Assert: !And [!Condition Yes, !Not [!Equals [!Ref Number, 4]]]}]`, ""},
	}
	for _, tt := range tests {
		rule := tt.rule
		if rule[0] != '{' {
			rule = "{" + rule + "}"
		}
		s := scope(t, base+"Rules: {Rule: "+rule+"}\n")
		err := s.Template.Check(func(string, string) bool { return true })
		if err == nil {
			err = s.Check()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.rule, err, tt.want)
		}
	}
}
