package iam

import (
	"path/filepath"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

func TestARoleMayDoWhatItsPoliciesNameAndNoneForbids(t *testing.T) {
	s, types := store(t, filepath.Join(t.TempDir(), "iam.json"))
	put := func(kind string, properties map[string]any) {
		t.Helper()
		if _, err := types[kind].Handler.Create(t.Context(), resource.Request{Token: kind, Name: kind, Properties: properties}); err != nil {
			t.Fatal(err)
		}
	}
	put("ManagedPolicy", map[string]any{"ManagedPolicyName": "more", "PolicyDocument": object(t, `{"Statement":{"Effect":"Allow","Action":"ssm:get*","Resource":"*"}}`)})
	put("Role", map[string]any{
		"RoleName": "host", "AssumeRolePolicyDocument": object(t, trust), "ManagedPolicyArns": []any{"arn:aws:iam::111122223333:policy/more"},
		"Policies": []any{map[string]any{"PolicyName": "own", "PolicyDocument": object(t, `{"Statement":[
			{"Effect":"Allow","Action":["ec2:AttachVolume","ec2:Describe*"],"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/a":"b"}}},
			{"Effect":"Deny","Action":"ec2:DescribeImages","Resource":"*"},
			{"Effect":"Deny","NotAction":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`)}},
	})
	const session = "arn:aws:sts::111122223333:assumed-role/host/i-0123456789abcdef0"
	for action, want := range map[string]bool{
		"ec2:AttachVolume": true, "ec2:DescribeVolumes": true, "ssm:GetParameter": true, "ec2:attachvolume": true,
		"ec2:DescribeImages": false, "ec2:DetachVolume": false, "ssm:PutParameter": false, "ec2:AttachVolumes": false,
	} {
		if got := s.Allows(session, action); got != want {
			t.Errorf("%s: %v, want %v", action, got, want)
		}
	}
	if s.Allows("arn:aws:sts::111122223333:assumed-role/other/i-0123456789abcdef0", "ec2:DescribeVolumes") || s.Allows("arn:aws:iam::111122223333:user/host", "ec2:DescribeVolumes") {
		t.Error("others may do it too")
	}
}
