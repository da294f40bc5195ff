package cloudformation_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// roles are the roles of templates that the published policies say the permissions of.
var roles = []struct {
	template, role string
	given          map[string]string
	trust          string   // a file of policies/, or empty
	files          []string // the same, whose statements the role has
	more           []string
}{
	{template: "workers.yaml", role: "NodeRole", given: minimal, trust: "node-trust.json", files: []string{"node.json"},
		more: []string{"SayThatTheNodeIsReady", "EndTheHooks"}},
	{template: "control-plane.yaml", role: "HostRole", given: oneHost, trust: "node-trust.json", files: []string{"service.json", "host.json"},
		more: []string{"SayThatTheServiceAnswers", "UseTheKeyForBackups", "UseTheKeyForTheVolume", "LetEbsUseItForTheVolume"}},
	{template: "image-pipeline.yaml", role: "BakeRole", files: []string{"bake.json"}, more: []string{"WriteLogs"}},
	{template: "image-pipeline.yaml", role: "BakeRole", files: []string{"bake.json"}, more: []string{"WriteLogs", "ReadTheSource", "FindTheSource"},
		given: map[string]string{"SourceObject": "sources/ovenbird.zip", "KmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/0123abcd"}},
}

// A role has each statement of its policy, with resources that are the same or fewer.
func TestRolesHaveThePublishedPermissionsAndNoOthers(t *testing.T) {
	for _, role := range roles {
		t.Run(role.role, func(t *testing.T) {
			s, err := newStack(load(t, role.template), role.given)
			if err != nil {
				t.Fatal(err)
			}
			properties := s.properties(role.role)
			if role.trust != "" {
				if got, want := statementsOf(properties["AssumeRolePolicyDocument"]), published(t, role.trust); !reflect.DeepEqual(got, want) {
					t.Errorf("the trust is %v, want %v", got, want)
				}
			}
			var got []map[string]any
			for _, policy := range properties["Policies"].([]any) {
				got = append(got, statementsOf(policy.(map[string]any)["PolicyDocument"])...)
			}
			left := map[string]map[string]any{}
			for _, statement := range got {
				left[fmt.Sprint(statement["Sid"])] = statement
			}
			var wanted []map[string]any
			for _, file := range role.files {
				wanted = append(wanted, published(t, file)...)
			}
			for _, want := range wanted {
				sid := fmt.Sprint(want["Sid"])
				have, ok := left[sid]
				delete(left, sid)
				if !ok {
					t.Errorf("the role does not have %s of %q", sid, role.files)
					continue
				}
				if !within(words(have["Resource"]), words(want["Resource"])) {
					t.Errorf("%s is for %v, want what is in %v", sid, have["Resource"], want["Resource"])
				}
				have["Resource"], want["Resource"] = nil, nil
				if !reflect.DeepEqual(normal(have), normal(want)) {
					t.Errorf("%s is %v, want %v", sid, have, want)
				}
			}
			for sid := range left {
				if !slices.Contains(role.more, sid) {
					t.Errorf("the role has %s, which is not in %q", sid, role.files)
				}
			}
			if len(left) != len(role.more) {
				t.Errorf("besides %q the role has %d statements, want %q", role.files, len(left), role.more)
			}
		})
	}
}

// What a node may do besides is to its own stack and its own group.
func TestANodeMayTellOnlyItsOwnStackAndGroup(t *testing.T) {
	s := workers(t, minimal)
	for _, policy := range s.properties("NodeRole")["Policies"].([]any) {
		for _, statement := range statementsOf(policy.(map[string]any)["PolicyDocument"]) {
			switch statement["Sid"] {
			case "SayThatTheNodeIsReady":
				if statement["Resource"] != pseudo["AWS::StackId"] {
					t.Errorf("a node may signal to %v", statement["Resource"])
				}
			case "EndTheHooks":
				group := fmt.Sprint("autoScalingGroupName/", s.properties("Workers")["AutoScalingGroupName"])
				if !strings.HasSuffix(statement["Resource"].(string), ":autoScalingGroup:*:"+group) {
					t.Errorf("a node may end hooks of %v", statement["Resource"])
				}
			}
		}
	}
}

func published(t *testing.T, file string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile("policies/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	return statementsOf(document)
}

func statementsOf(document any) []map[string]any {
	var statements []map[string]any
	for _, statement := range document.(map[string]any)["Statement"].([]any) {
		statements = append(statements, statement.(map[string]any))
	}
	return statements
}

// normal makes of a value one in which a list of one is that one.
func normal(value any) any {
	switch v := value.(type) {
	case []any:
		if len(v) == 1 {
			return normal(v[0])
		}
		return v
	case map[string]any:
		out := map[string]any{}
		for key, element := range v {
			out[key] = normal(element)
		}
		return out
	}
	return value
}

func words(value any) []string {
	if one, ok := value.(string); ok {
		return []string{one}
	}
	var several []string
	for _, one := range value.([]any) {
		several = append(several, one.(string))
	}
	return several
}

// within says whether each resource matches one of the patterns, in which * stands for any text. The
// ARN of a resource that the stack makes, which has no value here, is narrower than any.
func within(resources, patterns []string) bool {
	for _, resource := range resources {
		if strings.HasSuffix(strings.TrimSuffix(resource, "/*"), ".Arn") {
			continue
		}
		if !slices.ContainsFunc(patterns, func(pattern string) bool {
			// path.Match's * ends at a slash, which means nothing in an ARN.
			ok, err := path.Match(strings.ReplaceAll(pattern, "/", "|"), strings.ReplaceAll(resource, "/", "|"))
			return err == nil && ok
		}) {
			return false
		}
	}
	return len(resources) > 0
}
