package cloudformation_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// oneHost are the parameters of the control plane that every set has.
var oneHost = map[string]string{
	"VpcId": "vpc-0123456789abcdef0", "SubnetId": "subnet-0123456789abcdef0", "AvailabilityZone": "eu-central-1a",
	"AdministratorArns": "arn:aws:iam::111122223333:role/operators,arn:aws:iam::111122223333:user/jane", "ImageId": "ami-0123456789abcdef0",
}

func controlPlane(t *testing.T, others map[string]string) stack {
	t.Helper()
	given := maps.Clone(oneHost)
	maps.Copy(given, others)
	s, err := newStack(load(t, "control-plane.yaml"), given)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hostData is the user-data, with what EC2 calls the stack's resources.
func (s stack) hostData(t *testing.T) string {
	t.Helper()
	return strings.NewReplacer(
		"volumeId: DataVolume", "volumeId: vol-0123456789abcdef0", "networkInterfaceId: Interface", "networkInterfaceId: eni-0123456789abcdef0",
		"LoadBalancer.DNSName", "workers-0123456789abcdef.elb.eu-central-1.amazonaws.com", "s3://BackupBucket/", "s3://workers-backupbucket-1abcdefghijkl/",
		"logGroup: Logs", "logGroup: workers-Logs-1aBcDeFgHiJkL", "kmsKeyId: Key.Arn", "kmsKeyId: arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
	).Replace(s.userData(t))
}

// The agent's tests render this to what `ovenbird host` gets, and keep that beside it.
func TestTheHostsUserDataIsWhatTheAgentsTestsRender(t *testing.T) {
	const file = "../agent/testdata/cases/stack-control-plane/input"
	got := controlPlane(t, map[string]string{
		"ExtraNodeConfig":     "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {instance: {environment: {default: {AWS_ENDPOINT_URL: \"https://aws.lab.internal\"}}}}",
		"TrustedCertificates": certificate(t),
	}).hostData(t)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the template gives (run go test with -update if that is meant):\n%s", file, got)
	}
}

func TestTheHostIsToldWhatTheParametersSay(t *testing.T) {
	const policy = `{"statements": [{"principals": ["arn:aws:iam::111122223333:root"], "actions": ["eks:Describe*"], "resources": ["*"]}]}`
	for name, test := range map[string]struct {
		given map[string]string
		holds func(nodeconfig.HostSpec) bool
	}{
		"administrators": {nil, func(h nodeconfig.HostSpec) bool {
			statement := h.Policy["statements"].([]any)[0].(map[string]any)
			return slices.Equal(words(statement["principals"]), strings.Split(oneHost["AdministratorArns"], ","))
		}},
		"a policy": {map[string]string{"CallerPolicy": policy, "AdministratorArns": ""}, func(h nodeconfig.HostSpec) bool {
			statement := h.Policy["statements"].([]any)[0].(map[string]any)
			return slices.Equal(words(statement["actions"]), []string{"eks:Describe*"})
		}},
		"the load balancer's name": {nil, func(h nodeconfig.HostSpec) bool { return strings.HasSuffix(h.PublicHost, ".amazonaws.com") }},
		"a name of one's own":      {map[string]string{"PublicHost": "eks.example.com"}, func(h nodeconfig.HostSpec) bool { return h.PublicHost == "eks.example.com" }},
		"backups": {map[string]string{"BackupInterval": "90m", "BackupKeep": "7"}, func(h nodeconfig.HostSpec) bool {
			return h.Backups.Interval == "90m" && *h.Backups.Keep == 7 && h.Backups.KeyParameter == "/ovenbird/workers/backup-key"
		}},
		"addresses of pods": {map[string]string{"PodCidr": "10.32.0.0/12"}, func(h nodeconfig.HostSpec) bool { return h.PodCIDR == "10.32.0.0/12" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := controlPlane(t, test.given)
			if failed := s.failedRules(); len(failed) > 0 {
				t.Fatalf("%q", failed)
			}
			got, err := nodeconfig.Parse([]byte(s.hostData(t)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Host == nil || !test.holds(got.Host.Spec) || len(got.Warnings) > 0 {
				t.Errorf("got %+v", got)
			}
			if got.Spec.Instance.Environment[nodeconfig.EnvironmentDefault]["OVENBIRD_SIGNAL_RESOURCE"] != "Hosts" {
				t.Error("nobody would tell CloudFormation that the service answers")
			}
		})
	}
}

func TestAControlPlaneThatCannotWorkIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		given map[string]string
		want  string
	}{
		"no image":                     {map[string]string{"ImageId": ""}, "There is no image."},
		"two images":                   {map[string]string{"ImageParameter": "/ovenbird/stable/image_id"}, "There are two images."},
		"nobody who may call":          {map[string]string{"AdministratorArns": ""}, "Nobody could call the EKS API."},
		"a certificate without a name": {map[string]string{"CertificateArn": "arn:aws:acm:eu-central-1:111122223333:certificate/0123"}, "No certificate is for the load balancer's own name."},
	} {
		t.Run(name, func(t *testing.T) {
			failed := controlPlane(t, test.given).failedRules()
			if len(failed) != 1 || !strings.Contains(failed[0], test.want) {
				t.Errorf("got %q, want %q", failed, test.want)
			}
		})
	}
}

// What the next instance, or somebody with a backup, needs outlives an instance or the stack.
func TestDataOutlivesTheStack(t *testing.T) {
	tpl := load(t, "control-plane.yaml")
	for name, want := range map[string]string{"Key": "Retain", "Logs": "Retain", "BackupBucket": "Retain", "BackupBucketPolicy": "Retain", "DataVolume": "Snapshot"} {
		r, ok := tpl.Resource(name)
		if !ok || r.Body["DeletionPolicy"] != want || r.Body["UpdateReplacePolicy"] != want {
			t.Errorf("%s: deleted with %v, replaced with %v, want %s", name, r.Body["DeletionPolicy"], r.Body["UpdateReplacePolicy"], want)
		}
	}
}

func TestTheDataVolumeIsMadeOfASnapshotWhenAsked(t *testing.T) {
	for _, snapshot := range []string{"", "snap-0123456789abcdef0"} {
		volume := controlPlane(t, map[string]string{"DataSnapshotId": snapshot}).properties("DataVolume")
		if got, given := volume["SnapshotId"]; given != (snapshot != "") || (given && got != snapshot) {
			t.Errorf("of %q: made of %v", snapshot, got)
		}
	}
}
