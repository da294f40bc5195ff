// Package cloudformation_test holds the templates to what CloudFormation and a reader expect of
// them, and renders what they tell instances.
package cloudformation_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/cloudformation/template"
)

// maxBody is CloudFormation's bound on a template that comes with a request, in bytes.
const maxBody = 51_200

// known are the resource types that the templates may use: the lab runs these.
var known = strings.Fields(`
	AWS::AutoScaling::AutoScalingGroup AWS::AutoScaling::LifecycleHook AWS::AutoScaling::WarmPool
	AWS::CodeBuild::Project
	AWS::EC2::EIP AWS::EC2::EIPAssociation AWS::EC2::EgressOnlyInternetGateway AWS::EC2::InternetGateway AWS::EC2::LaunchTemplate
	AWS::EC2::NatGateway AWS::EC2::NetworkInterface AWS::EC2::Route AWS::EC2::RouteTable AWS::EC2::SecurityGroup
	AWS::EC2::SecurityGroupEgress AWS::EC2::SecurityGroupIngress AWS::EC2::Subnet AWS::EC2::SubnetRouteTableAssociation
	AWS::EC2::VPC AWS::EC2::VPCCidrBlock AWS::EC2::VPCEndpoint AWS::EC2::VPCGatewayAttachment AWS::EC2::Volume
	AWS::ElasticLoadBalancingV2::Listener AWS::ElasticLoadBalancingV2::LoadBalancer AWS::ElasticLoadBalancingV2::TargetGroup
	AWS::IAM::InstanceProfile AWS::IAM::ManagedPolicy AWS::IAM::Policy AWS::IAM::Role
	AWS::KMS::Alias AWS::KMS::Key AWS::Logs::LogGroup AWS::S3::Bucket AWS::S3::BucketPolicy AWS::SSM::Parameter
	AWS::Scheduler::Schedule`)

// samples are values for parameters that have no default, by their types.
var samples = map[string]string{
	"String": "demo", "AWS::EC2::AvailabilityZone::Name": "eu-central-1a", "AWS::EC2::VPC::Id": "vpc-0123456789abcdef0",
	"AWS::EC2::Subnet::Id": "subnet-0123456789abcdef0", "List<AWS::EC2::Subnet::Id>": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
	"AWS::EC2::SecurityGroup::Id": "sg-0123456789abcdef0",
}

// variable is a reference within the text of Fn::Sub.
var variable = regexp.MustCompile(`\$\{([^}!]*)\}`)

// eachTemplate runs a test on every template of the directory.
func eachTemplate(t *testing.T, test func(t *testing.T, tpl template.Template)) {
	t.Helper()
	for _, file := range templates(t) {
		t.Run(file, func(t *testing.T) { test(t, load(t, file)) })
	}
}

func templates(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are %d templates, %v", len(files), err)
	}
	return files
}

func load(t *testing.T, file string) template.Template {
	t.Helper()
	tpl, err := template.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestATemplateFitsIntoARequest(t *testing.T) {
	for _, file := range templates(t) {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxBody {
			t.Errorf("%s has %d bytes, more than CloudFormation's %d", file, info.Size(), maxBody)
		}
	}
}

func TestEveryNameThatIsUsedExistsAndEveryParameterAndConditionIsUsed(t *testing.T) {
	eachTemplate(t, func(t *testing.T, tpl template.Template) {
		u := usesOf(tpl)
		var values, conditions []string
		for _, p := range tpl.Parameters {
			values = append(values, p.Name)
			if !slices.Contains(u.values, p.Name) {
				t.Errorf("nothing uses the parameter %s", p.Name)
			}
		}
		for _, c := range tpl.Conditions {
			conditions = append(conditions, c.Name)
			if !slices.Contains(u.conditions, c.Name) {
				t.Errorf("nothing uses the condition %s", c.Name)
			}
		}
		for _, r := range tpl.Resources {
			values = append(values, r.Name)
			if !slices.Contains(known, r.Type) {
				t.Errorf("the lab does not run %s, which %s is", r.Type, r.Name)
			}
		}
		for _, name := range u.values {
			if !slices.Contains(values, name) && !strings.HasPrefix(name, "AWS::") {
				t.Errorf("there is no parameter or resource %s", name)
			}
		}
		for _, name := range u.resources {
			if _, ok := tpl.Resource(name); !ok {
				t.Errorf("there is no resource %s", name)
			}
		}
		for _, name := range u.conditions {
			if !slices.Contains(conditions, name) {
				t.Errorf("there is no condition %s", name)
			}
		}
	})
}

// uses are the names that functions name.
type uses struct{ values, resources, conditions []string }

func usesOf(tpl template.Template) *uses {
	u := &uses{}
	for _, section := range [][]template.Named{tpl.Rules, tpl.Conditions} {
		for _, entry := range section {
			u.walk(entry.Body, nil)
		}
	}
	for _, r := range tpl.Resources {
		u.walk(r.Body, nil)
		u.condition(r.Condition)
		switch on := r.Body["DependsOn"].(type) {
		case string:
			u.resources = append(u.resources, on)
		case []any:
			for _, name := range on {
				u.resources = append(u.resources, name.(string))
			}
		}
	}
	for _, o := range tpl.Outputs {
		u.walk(o.Value, nil)
		u.walk(o.Export, nil)
		u.condition(o.Condition)
	}
	return u
}

func (u *uses) condition(name string) {
	if name != "" {
		u.conditions = append(u.conditions, name)
	}
}

// walk looks at a value; own are the variables of the Fn::Sub around it.
func (u *uses) walk(value any, own map[string]any) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			u.walk(element, own)
		}
	case map[string]any:
		for key, element := range v {
			switch key {
			case "Ref":
				u.values = append(u.values, element.(string))
			case "Fn::GetAtt":
				u.resources = append(u.resources, element.([]any)[0].(string))
			case "Fn::If":
				u.condition(element.([]any)[0].(string))
				u.walk(element.([]any)[1:], own)
			case "Fn::Sub":
				u.sub(element)
			case "Condition":
				if name, ok := element.(string); ok && len(v) == 1 {
					u.condition(name)
					continue
				}
				u.walk(element, own) // of a policy's statement
			default:
				u.walk(element, own)
			}
		}
	}
}

func (u *uses) sub(argument any) {
	text, own := argument, map[string]any{}
	if arguments, ok := argument.([]any); ok {
		text, own = arguments[0], arguments[1].(map[string]any)
		u.walk(own, nil)
	}
	for _, match := range variable.FindAllStringSubmatch(text.(string), -1) {
		if _, ok := own[match[1]]; ok {
			continue
		}
		if resource, _, ok := strings.Cut(match[1], "."); ok {
			u.resources = append(u.resources, resource)
		} else {
			u.values = append(u.values, match[1])
		}
	}
}

func TestEveryParameterIsExplainedAndInOneGroup(t *testing.T) {
	eachTemplate(t, func(t *testing.T, tpl template.Template) {
		var grouped []string
		for _, group := range tpl.Groups {
			if group.Label == "" {
				t.Error("a group has no label")
			}
			grouped = append(grouped, group.Parameters...)
		}
		for _, name := range grouped {
			if _, ok := tpl.Parameter(name); !ok {
				t.Errorf("a group has %s, which is no parameter", name)
			}
		}
		for name := range tpl.Labels {
			if !slices.Contains(grouped, name) {
				t.Errorf("there is a label for %s, which is in no group", name)
			}
		}
		for _, p := range tpl.Parameters {
			if n := len(slices.DeleteFunc(slices.Clone(grouped), func(name string) bool { return name != p.Name })); n != 1 {
				t.Errorf("%s is in %d groups", p.Name, n)
			}
			if p.Description == "" || tpl.Labels[p.Name] == "" {
				t.Errorf("%s has no description or no label", p.Name)
			}
			if (p.AllowedPattern != "" || p.MaxValue != nil) && !strings.HasPrefix(p.ConstraintDescription, "must ") {
				t.Errorf("%s does not say what it must be", p.Name)
			}
		}
	})
}

func TestDefaultsAreWithinTheirConstraints(t *testing.T) {
	eachTemplate(t, func(t *testing.T, tpl template.Template) {
		given := map[string]string{}
		for _, p := range tpl.Parameters {
			if p.AllowedPattern != "" && (!strings.HasPrefix(p.AllowedPattern, "^") || !strings.HasSuffix(p.AllowedPattern, "$")) {
				t.Errorf("the pattern of %s does not say that it is the whole value", p.Name)
			}
			if p.Default == nil {
				given[p.Name] = samples[p.Type]
			}
		}
		if _, err := newStack(tpl, given); err != nil {
			t.Error(err)
		}
	})
}

func TestOutputsAreExportedUnderTheirNames(t *testing.T) {
	eachTemplate(t, func(t *testing.T, tpl template.Template) {
		for _, o := range tpl.Outputs {
			if o.Description == "" {
				t.Errorf("%s has no description", o.Name)
			}
			if o.Export == nil {
				continue
			}
			if sub, _ := o.Export.(map[string]any); sub["Fn::Sub"] != "${AWS::StackName}-"+o.Name {
				t.Errorf("%s is exported as %v", o.Name, o.Export)
			}
		}
	})
}
