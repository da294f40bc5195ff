package iam

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPolicyDocumentsAreHeldToTheGrammar(t *testing.T) {
	tests := []struct {
		name, document string
		kind           Kind
		want           string
	}{
		{"what a role may do", `{"Version":"2012-10-17","Statement":[{"Sid":"A1","Effect":"Allow","Action":["ec2:Describe*","s3:*"],"Resource":"*","Condition":{"StringLike":{"aws:x":"y"}}}]}`, Identity, ""},
		{"who may assume it", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}`, Trust, ""},
		{"who may use a bucket", `{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`, Resource, ""},
		{"qualified operators", `{"Statement":[{"Effect":"Allow","Action":"a:b","Resource":"*","Condition":{"ForAnyValue:StringEqualsIfExists":{"k":["v"]}}}]}`, Identity, ""},
		{"no statement", `{"Version":"2012-10-17"}`, Identity, "Missing required field Statement"},
		{"another version", `{"Version":"2020-01-01","Statement":[]}`, Identity, "valid version string"},
		{"an unknown element", `{"Statement":[{"Effect":"Allow","Action":"a:b","Resource":"*","Actions":"x"}]}`, Identity, "unknown element Actions"},
		{"no effect", `{"Statement":[{"Action":"a:b","Resource":"*"}]}`, Identity, "Invalid effect"},
		{"an action of no service", `{"Statement":[{"Effect":"Allow","Action":"Describe","Resource":"*"}]}`, Identity, "prefaced by a vendor"},
		{"a resource that is no ARN", `{"Statement":[{"Effect":"Allow","Action":"a:b","Resource":"bucket"}]}`, Identity, "ARN format"},
		{"no resource", `{"Statement":[{"Effect":"Allow","Action":"a:b"}]}`, Identity, "must contain resources"},
		{"a principal where there is none", `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"a:b","Resource":"*"}]}`, Identity, "unknown element Principal"},
		{"a resource in a trust policy", `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"a:b","Resource":"*"}]}`, Trust, "unknown element Resource"},
		{"no principal", `{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}`, Trust, "Principal"},
		{"a service that is none", `{"Statement":[{"Effect":"Allow","Principal":{"Service":"ec2"},"Action":"sts:AssumeRole"}]}`, Trust, "Invalid principal"},
		{"an operator that is none", `{"Statement":[{"Effect":"Allow","Action":"a:b","Resource":"*","Condition":{"Equals":{"a":"b"}}}]}`, Identity, "Invalid Condition type : Equals"},
		{"a Sid with a dash", `{"Statement":[{"Sid":"a-b","Effect":"Allow","Action":"a:b","Resource":"*"}]}`, Identity, "alpha-numeric"},
		{"a Sid twice", `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"a:b","Resource":"*"},{"Sid":"a","Effect":"Deny","Action":"a:b","Resource":"*"}]}`, Identity, "must be unique"},
	}
	for _, tt := range tests {
		err := CheckDocument(object(t, tt.document), tt.kind)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

func store(t *testing.T, path string) (*Store, map[string]resource.Type) {
	t.Helper()
	s := &Store{Path: path, Plan: vpc.Default(), Profile: "node", Now: time.Now}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	types := map[string]resource.Type{}
	for _, kind := range s.ResourceTypes() {
		types[strings.TrimPrefix(kind.Name, "AWS::IAM::")] = kind
	}
	return s, types
}

func TestAProfileHasARoleOfAnotherNameAndOutlivesTheDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "iam.json")
	s, types := store(t, path)
	if !s.HasProfile("node") || s.Role("node") != "node" {
		t.Error("the lab's own profile is not there")
	}
	request := resource.Request{LogicalID: "Role", Token: "1", Name: "stack-Role-abcdefghijkl", Properties: map[string]any{"AssumeRolePolicyDocument": object(t, trust)}}
	role, err := types["Role"].Handler.Create(t.Context(), request)
	if err != nil || role != "stack-Role-abcdefghijkl" {
		t.Fatal(role, err)
	}
	if again, err := types["Role"].Handler.Create(t.Context(), request); err != nil || again != role {
		t.Errorf("another try: %s, %v", again, err)
	}
	request.Token = "2"
	if _, err := types["Role"].Handler.Create(t.Context(), request); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("another request: %v", err)
	}
	profile, err := types["InstanceProfile"].Handler.Create(t.Context(), resource.Request{Token: "3", Name: "p", Properties: map[string]any{"Roles": []any{role}}})
	if err != nil {
		t.Fatal(err)
	}
	s, types = store(t, path)
	if s.Role(profile) != role || !s.HasProfile(profile) {
		t.Errorf("the role of %s is %q", profile, s.Role(profile))
	}
	if err := types["Role"].Handler.Delete(t.Context(), role, resource.Request{}); err == nil || !strings.Contains(err.Error(), "must remove roles from instance profile first") {
		t.Errorf("a role in use: %v", err)
	}
	if err := types["InstanceProfile"].Handler.Delete(t.Context(), profile, resource.Request{}); err != nil || s.Role(profile) != "" {
		t.Errorf("%v, %q", err, s.Role(profile))
	}
	if err := types["Role"].Handler.Delete(t.Context(), role, resource.Request{}); err != nil {
		t.Error(err)
	}
}

func TestPoliciesOfOtherResourcesStayWhenARoleChanges(t *testing.T) {
	s, types := store(t, filepath.Join(t.TempDir(), "iam.json"))
	document := object(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"a:b","Resource":"*"}]}`)
	properties := map[string]any{
		"AssumeRolePolicyDocument": object(t, trust), "ManagedPolicyArns": []any{"arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"},
		"Policies": []any{map[string]any{"PolicyName": "own", "PolicyDocument": document}},
	}
	role, err := types["Role"].Handler.Create(t.Context(), resource.Request{Token: "1", Name: "r", Properties: properties})
	if err != nil {
		t.Fatal(err)
	}
	managed, err := types["ManagedPolicy"].Handler.Create(t.Context(), resource.Request{Token: "2", Name: "m", Properties: map[string]any{"PolicyDocument": document, "Roles": []any{role}}})
	if err != nil || managed != "arn:aws:iam::111122223333:policy/m" {
		t.Fatal(managed, err)
	}
	inline := resource.Request{Token: "3", Name: "i", Properties: map[string]any{"PolicyName": "other", "PolicyDocument": document, "Roles": []any{role}}}
	if _, err := types["Policy"].Handler.Create(t.Context(), inline); err != nil {
		t.Fatal(err)
	}
	if err := types["Role"].Handler.Update(t.Context(), role, resource.Request{Before: properties, Properties: map[string]any{"AssumeRolePolicyDocument": object(t, trust)}}); err != nil {
		t.Fatal(err)
	}
	if got := s.look().Roles[role]; !slices.Equal(got.Managed, []string{managed}) || len(got.Inline) != 1 || got.Inline["other"] == nil {
		t.Errorf("%+v", got)
	}
	if err := types["ManagedPolicy"].Handler.Delete(t.Context(), managed, resource.Request{Properties: map[string]any{"PolicyDocument": document}}); err == nil {
		t.Error("a policy that is attached was deleted")
	}
	for _, bad := range []map[string]any{
		{"AssumeRolePolicyDocument": object(t, trust), "Path": "/team/"},
		{"AssumeRolePolicyDocument": object(t, trust), "ManagedPolicyArns": []any{"arn:aws:iam::111122223333:policy/none"}},
		{"AssumeRolePolicyDocument": object(t, trust), "MaxSessionDuration": 60},
		{"AssumeRolePolicyDocument": document},
	} {
		if id, err := types["Role"].Handler.Create(t.Context(), resource.Request{Token: "4", Name: "bad", Properties: bad}); err == nil {
			t.Errorf("%v made %s", bad, id)
		}
	}
}
