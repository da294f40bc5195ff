package cloudformation_test

import (
	"strings"
	"testing"
)

func TestCombinationsThatCannotWorkAreRefused(t *testing.T) {
	tests := []struct {
		name, file string
		given      map[string]string
		want       string // of the rule that fails; empty: none does
	}{
		{"what is needed and nothing else", "workers.yaml", nil, ""},
		{"no image", "workers.yaml", map[string]string{"ImageId": ""}, "no image"},
		{"an image of a parameter", "workers.yaml", map[string]string{"ImageId": "", "ImageParameter": "/ovenbird/stable/image_id:7"}, ""},
		{"two images", "workers.yaml", map[string]string{"ImageParameter": "/ovenbird/stable/image_id"}, "two images"},
		{"an update without room", "workers.yaml", map[string]string{"MaxSize": "2"}, "MinInstancesInService"},
		{"spot in a warm pool", "workers.yaml", map[string]string{"WarmPool": "Stopped", "OnDemandPercentage": "50"}, "Spot Instances"},
		{"a warm pool", "workers.yaml", map[string]string{"WarmPool": "Stopped"}, ""},
		{"spot", "workers.yaml", map[string]string{"OnDemandPercentage": "0"}, ""},
		{"half a cluster", "workers.yaml", map[string]string{"ClusterEndpoint": "https://10.0.0.10:6443"}, "together"},
		{"no way to kubelet", "workers.yaml", map[string]string{"ClusterSecurityGroupId": ""}, "kubelet"},
		{"a way to kubelet by addresses", "workers.yaml", map[string]string{"ClusterSecurityGroupId": "", "ControlPlaneCidr": "10.0.0.10/32"}, ""},
		{"a boundary for a role of somebody else", "workers.yaml", map[string]string{"NodeRoleName": "nodes", "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/bound"}, "PermissionsBoundaryArn"},
		{"a key", "image-pipeline.yaml", map[string]string{"KmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/0123abcd"}, ""},
		{"a key in two regions", "image-pipeline.yaml", map[string]string{"KmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/0123abcd", "CopyToRegions": "us-east-1"}, "its own region"},
		{"the region's zones", "network.yaml", nil, ""},
		{"one zone", "network.yaml", map[string]string{"Zone1": "eu-central-1a"}, "Zone1"},
		{"a zone twice", "network.yaml", map[string]string{"Zone1": "eu-central-1a", "Zone2": "eu-central-1b", "Zone3": "eu-central-1a"}, "different"},
		{"three zones", "network.yaml", map[string]string{"Zone1": "eu-central-1a", "Zone2": "eu-central-1b", "Zone3": "eu-central-1c"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			given := tt.given
			if tt.file == "workers.yaml" {
				given = with(given)
			}
			s, err := newStack(load(t, tt.file), given)
			if err != nil {
				t.Fatal(err)
			}
			failed := s.failedRules()
			if tt.want == "" && len(failed) > 0 || tt.want != "" && (len(failed) != 1 || !strings.Contains(failed[0], tt.want)) {
				t.Errorf("got %q, want %q", failed, tt.want)
			}
		})
	}
}
