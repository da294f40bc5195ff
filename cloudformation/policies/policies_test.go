// Package policies_test holds the IAM policies against the programs that run with them: a
// policy allows what the program's source calls, and nothing else.
package policies_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// policies are the permissions of one program each.
var policies = []struct {
	file    string
	program string // its main package, or a script
	// without are packages in it that run with other credentials.
	without []string
}{
	// What an operator asks of the EKS API, and of CloudFormation, is asked with the operator's credentials.
	{file: "service.json", program: "control-plane", without: []string{"control-plane/operator", "control-plane/bearer", "control-plane/workers", "control-plane/host"}},
	{file: "host.json", program: "control-plane/host"},
	{file: "node.json", program: "agent"},
	{file: "bake.json", program: "packer"},
	{file: "smoke.json", program: "scripts/aws-smoke"},
}

// entails are the actions that AWS asks for beside the one that is named as the call, by
// what in the source has it do so.
var entails = map[string][]string{
	"ebs.StartSnapshotInput.Tags":              {"ec2:CreateTags"},
	"ec2.RegisterImageInput.TagSpecifications": {"ec2:CreateTags"},
	"ec2.CopyImageInput.TagSpecifications":     {"ec2:CreateTags"},
	"internal/ststoken.Signer.Token":           {"sts:GetCallerIdentity"},
	"agent/discover.Describe":                  {"eks:DescribeCluster"},
	"agent/ecr.Client.Login":                   {"ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
	"--tag-specifications":                     {"ec2:CreateTags"},
	"--iam-instance-profile":                   {"iam:PassRole"},
	"ec2 wait instance-terminated":             {"ec2:DescribeInstances"},
	"eks update-kubeconfig":                    {"eks:DescribeCluster"},
	"ebs.StartSnapshotInput.KmsKeyArn":         keyUse,
	"ec2.CopyImageInput.KmsKeyId":              keyUse,
}

// renamed are the actions that IAM does not call as the API does, and prefixes the services that it
// does not call as the SDK does.
var (
	renamed  = map[string]string{"s3:ListObjectsV2": "s3:ListBucket"}
	prefixes = map[string]string{"cloudwatchlogs": "logs"}
)

// keyUse is what EBS does with a customer's key in the name of the caller.
var keyUse = []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"}

// document is a policy, as strict as IAM reads it.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Principal map[string]string `json:",omitempty"`
	Action    words
	Resource  words                       `json:",omitempty"`
	Condition map[string]map[string]words `json:",omitempty"`
}

// words are one string or several.
type words []string

func (w *words) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(w))
}

func read(t *testing.T, file string) document {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var d document
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if d.Version != "2012-10-17" || len(d.Statement) == 0 {
		t.Errorf("%s: IAM takes no policy of version %q with %d statements", file, d.Version, len(d.Statement))
	}
	return d
}

func TestAPolicyAllowsWhatItsProgramCallsAndNothingElse(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.file, func(t *testing.T) {
			find := calls
			if strings.HasPrefix(policy.program, "scripts/") {
				find = commands
			}
			used, err := find("../..", policy.program, policy.without)
			if err != nil {
				t.Fatal(err)
			}
			allowed := map[string]bool{}
			for _, s := range read(t, policy.file).Statement {
				if s.Sid == "" || s.Effect != "Allow" || len(s.Resource) == 0 || len(s.Principal) > 0 {
					t.Errorf("statement %q: want a Sid that docs/iam.md explains, Allow and a Resource", s.Sid)
				}
				for _, action := range s.Action {
					allowed[action] = true
					if len(used[action]) == 0 {
						t.Errorf("%s allows %s, which nothing in %s calls", policy.file, action, policy.program)
					}
				}
			}
			for action, where := range used {
				if !allowed[action] {
					t.Errorf("%s does not allow %s, which is called at %s", policy.file, action, strings.Join(where, ", "))
				}
			}
		})
	}
}

func TestEveryActionIsExplained(t *testing.T) {
	explained, err := os.ReadFile("../../docs/iam.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files(t) {
		for _, s := range read(t, file).Statement {
			for _, action := range s.Action {
				if !strings.Contains(string(explained), "`"+action+"`") {
					t.Errorf("docs/iam.md does not say what %s needs %s for", file, action)
				}
			}
		}
	}
}

// A role whose trust reaches beyond EC2 lets whoever assumes it call itself an instance.
func TestOnlyInstancesBecomeNodes(t *testing.T) {
	for _, s := range read(t, "node-trust.json").Statement {
		if s.Effect != "Allow" || len(s.Principal) != 1 || s.Principal["Service"] != "ec2.amazonaws.com" || !slices.Equal(s.Action, words{"sts:AssumeRole"}) {
			t.Errorf("node-trust.json: %+v admits others than EC2", s)
		}
	}
}

func files(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*.json")
	if err != nil || len(found) == 0 {
		t.Fatalf("there are %d policies, %v", len(found), err)
	}
	return found
}

func TestEveryPolicyIsTested(t *testing.T) {
	known := []string{"node-trust.json"}
	for _, policy := range policies {
		known = append(known, policy.file)
	}
	for _, file := range files(t) {
		if !slices.Contains(known, file) {
			t.Errorf("nothing tests %s", file)
		}
	}
}
