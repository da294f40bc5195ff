package recorded

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func open(t *testing.T, path string) map[string]resource.Type {
	t.Helper()
	s := &Store{Path: path, Plan: vpc.Default()}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	types := map[string]resource.Type{}
	for _, kind := range s.ResourceTypes() {
		types[kind.Name] = kind
	}
	return types
}

func TestWhatIsRecordedOutlivesTheDaemonAndIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recorded.json")
	request := resource.Request{Token: "1", Name: "stack-Bucket-AbCdEfGhIjKl", Properties: map[string]any{}}
	bucket := open(t, path)["AWS::S3::Bucket"].Handler
	id, err := bucket.Create(t.Context(), request)
	if err != nil || id != "stack-bucket-abcdefghijkl" {
		t.Fatal(id, err)
	}
	bucket = open(t, path)["AWS::S3::Bucket"].Handler
	if again, err := bucket.Create(t.Context(), request); err != nil || again != id {
		t.Errorf("another try: %s, %v", again, err)
	}
	request.Token = "2"
	if _, err := bucket.Create(t.Context(), request); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("another request: %v", err)
	}
	if arn, err := bucket.Attribute(t.Context(), id, "Arn"); err != nil || arn != "arn:aws:s3:::"+id {
		t.Errorf("%v, %v", arn, err)
	}
	for range 2 {
		if err := bucket.Delete(t.Context(), id, request); err != nil {
			t.Error(err)
		}
	}
	if _, err := bucket.Attribute(t.Context(), id, "Arn"); err == nil {
		t.Error("a deleted bucket has an ARN")
	}
}

func TestResourcesThatMakeNoSenseAreRefused(t *testing.T) {
	types := open(t, filepath.Join(t.TempDir(), "recorded.json"))
	for kind, tests := range map[string][]map[string]any{
		"AWS::S3::Bucket":                           {{"BucketName": "Upper"}, {"BucketName": "ab"}},
		"AWS::S3::BucketPolicy":                     {{"Bucket": "none", "PolicyDocument": map[string]any{"Statement": []any{}}}},
		"AWS::KMS::Alias":                           {{"AliasName": "name", "TargetKeyId": "k"}, {"AliasName": "alias/a", "TargetKeyId": "none"}},
		"AWS::KMS::Key":                             {{"KeyPolicy": map[string]any{"Statement": "x"}}},
		"AWS::Scheduler::Schedule":                  {{"ScheduleExpression": "daily"}},
		"AWS::ElasticLoadBalancingV2::LoadBalancer": {{}, {"Subnets": []any{"a"}}, {"Type": "gateway", "Subnets": []any{"a"}}},
		"AWS::ElasticLoadBalancingV2::Listener":     {{"LoadBalancerArn": "none"}},
	} {
		for _, properties := range tests {
			if id, err := types[kind].Handler.Create(t.Context(), resource.Request{Token: "1", Name: "s-R-AbCdEfGhIjKl", Properties: properties}); err == nil {
				t.Errorf("%s of %v made %s", kind, properties, id)
			}
		}
	}
}

func TestUnknownPropertiesAreNamed(t *testing.T) {
	for name, kind := range open(t, filepath.Join(t.TempDir(), "recorded.json")) {
		out := kind.Properties
		if err := resource.Decode(map[string]any{"Colour": "red"}, out); err == nil || !strings.Contains(err.Error(), "/Colour") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
