package cloudformation_test

import (
	"encoding/base64"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// authority is a certificate as clusters tell theirs.
const authority = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJnakNDQVNlZ0F3SUJBZ0lVZEVMME1MTXpnY1RGRzl1ZXFaZEpTK1h2Yk5Zd0NnWUlLb1pJemowRUF3SXcKRlRFVE1CRUdBMVVFQXd3S2EzVmlaWEp1WlhSbGN6QWdGdzB5TmpFeE1qSXlNakV4TlRWYUdBOHlNVEkyTVRBeQpPVEl5TVRFMU5Wb3dGVEVUTUJFR0ExVUVBd3dLYTNWaVpYSnVaWFJsY3pCWk1CTUdCeXFHU000OUFnRUdDQ3FHClNNNDlBd0VIQTBJQUJEeDdjUktxcWhyQndIVEZFQzg5bEcyYnBnN0R4ZWc3S2hvSm5iazNQT3k3eW9TZmNVSHIKbGZ2UDgzYVpKSFVpTi9WQmRrNHg3YlJnN1Axa1E1dGRMSHFqVXpCUk1CMEdBMVVkRGdRV0JCUWJ2WHVXVUdrdwpBaHBsRXR5VjFXbUFoZTZpNnpBZkJnTlZIU01FR0RBV2dCUWJ2WHVXVUdrd0FocGxFdHlWMVdtQWhlNmk2ekFQCkJnTlZIUk1CQWY4RUJUQURBUUgvTUFvR0NDcUdTTTQ5QkFNQ0Ewa0FNRVlDSVFERENDWFd2ZWlxYTFObU8zSVkKYkFIdG9rbnpLNEdxWVEyMy9xY1JQVTRrQ3dJaEFKZThiYTNkS0dYVDBEOXJkZkt1YWZFR2hINWJnWDdGTWpMSApjM080bTNiWAotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg=="

// certificate is the same in PEM.
func certificate(t *testing.T) string {
	t.Helper()
	pem, err := base64.StdEncoding.DecodeString(authority)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem)
}

// minimal are the parameters of the workers that every set has.
var minimal = map[string]string{
	"ClusterName": "demo", "VpcId": "vpc-0123456789abcdef0", "SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
	"ClusterSecurityGroupId": "sg-0123456789abcdef0", "ImageId": "ami-0123456789abcdef0",
}

// with are the minimal parameters and others.
func with(others map[string]string) map[string]string {
	all := maps.Clone(minimal)
	maps.Copy(all, others)
	return all
}

func workers(t *testing.T, parameters map[string]string) stack {
	t.Helper()
	s, err := newStack(load(t, "workers.yaml"), parameters)
	if err != nil {
		t.Fatal(err)
	}
	if failed := s.failedRules(); len(failed) > 0 {
		t.Fatalf("%q", failed)
	}
	return s
}

func (s stack) launchTemplate() map[string]any {
	return s.properties("LaunchTemplate")["LaunchTemplateData"].(map[string]any)
}

func (s stack) userData(t *testing.T) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(s.launchTemplate()["UserData"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The agent's tests render these inputs to what kubelet and containerd get, and keep that beside
// them.
func TestUserDataIsWhatTheAgentsTestsRender(t *testing.T) {
	whole := map[string]string{"ClusterEndpoint": "https://10.0.0.10:6443", "ClusterCertificateAuthority": authority, "ClusterServiceCidr": "10.100.0.0/16"}
	complete := maps.Clone(whole)
	maps.Copy(complete, map[string]string{
		"NodeLabels": "team=blue,example.com/tier=web", "NodeTaints": "example.com/gpu=yes:NoSchedule,dedicated:NoExecute",
		"KubeletArguments": "--max-pods=40,--v=3",
		"ExtraNodeConfig": "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  instance:\n    environment:\n" +
			"      default: {AWS_ENDPOINT_URL_CLOUDFORMATION: \"https://aws.lab.internal\"}\n" +
			"  kubelet:\n    config: {shutdownGracePeriod: 1m}\n    flags: [--event-qps=7]",
		"TrustedCertificates": certificate(t), "ShellScript": "#!/bin/sh\necho \"it is ${HOSTNAME}\"", "DrainTimeout": "120",
	})
	for name, parameters := range map[string]map[string]string{"stack-minimal": whole, "stack-complete": complete} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("../agent/testdata/cases", name, "input")
			got := workers(t, with(parameters)).userData(t)
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
		})
	}
}

func TestEveryPartOfUserDataIsThereByItself(t *testing.T) {
	tests := []struct {
		name  string
		given map[string]string
		holds func(nodeconfig.UserData) bool
	}{
		{"nothing", nil, func(u nodeconfig.UserData) bool {
			return u.Spec.Cluster.Name == "demo" && len(u.Spec.Kubelet.Flags) == 0
		}},
		{"labels", map[string]string{"NodeLabels": "a=b,c=d"}, func(u nodeconfig.UserData) bool {
			return slices.Equal(u.Spec.Kubelet.Flags, []string{"--node-labels=a=b,c=d"})
		}},
		{"taints", map[string]string{"NodeTaints": "a=b:NoSchedule"}, func(u nodeconfig.UserData) bool {
			return slices.Equal(u.Spec.Kubelet.Flags, []string{"--register-with-taints=a=b:NoSchedule"})
		}},
		{"arguments", map[string]string{"KubeletArguments": "--v=3,--node-ip=10.0.0.1"}, func(u nodeconfig.UserData) bool {
			return slices.Equal(u.Spec.Kubelet.Flags, []string{"--v=3", "--node-ip=10.0.0.1"})
		}},
		{"another NodeConfig in JSON", map[string]string{"ExtraNodeConfig": `{"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": {"cluster": {"name": "other"}}}`}, func(u nodeconfig.UserData) bool {
			return u.Spec.Cluster.Name == "other"
		}},
		{"certificates", map[string]string{"TrustedCertificates": certificate(t)}, func(u nodeconfig.UserData) bool {
			return strings.TrimSpace(string(u.TrustedCAs)) == strings.TrimSpace(certificate(t))
		}},
		{"a script", map[string]string{"ShellScript": "#!/bin/sh\ntrue"}, func(u nodeconfig.UserData) bool { return len(u.Scripts) == 1 }},
		{"a name that YAML would take for a number", map[string]string{"ClusterName": "0123"}, func(u nodeconfig.UserData) bool { return u.Spec.Cluster.Name == "0123" }},
		{"how long a drain takes", map[string]string{"DrainTimeout": "90"}, func(u nodeconfig.UserData) bool {
			return u.Spec.Instance.Environment[nodeconfig.EnvironmentDefault]["OVENBIRD_DRAIN_TIMEOUT"] == "90s"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := nodeconfig.Parse([]byte(workers(t, with(tt.given)).userData(t)))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.holds(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestWhatDoesNotBelongIntoUserDataIsRefused(t *testing.T) {
	for name, value := range map[string]string{
		"ClusterName":         `demo", apiServerEndpoint: "x`,
		"ClusterEndpoint":     `https://a"b`,
		"ClusterServiceCidr":  "10.0.0.0",
		"NodeLabels":          `a="b"`,
		"NodeTaints":          "a=b:Never",
		"KubeletArguments":    `--v="3"`,
		"TrustedCertificates": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"ShellScript":         "echo hello",
		"ExtraNodeConfig":     "spec: {}",
		"ImageId":             "ubuntu",
		"ImageParameter":      "image_id",
		"DesiredCapacity":     "many",
	} {
		if _, err := newStack(load(t, "workers.yaml"), with(map[string]string{name: value})); err == nil {
			t.Errorf("%s may be %q", name, value)
		}
	}
}

func TestInstancesAreLaunchedSafely(t *testing.T) {
	data := workers(t, minimal).launchTemplate()
	if options := data["MetadataOptions"].(map[string]any); options["HttpTokens"] != "required" || options["HttpPutResponseHopLimit"] != 1 {
		t.Errorf("instance metadata is %v, want tokens and one hop", options)
	}
	if volume := data["BlockDeviceMappings"].([]any)[0].(map[string]any)["Ebs"].(map[string]any); volume["Encrypted"] != true || volume["VolumeType"] != "gp3" || volume["KmsKeyId"] != nil {
		t.Errorf("the volume is %v, want an encrypted gp3 with the account's key", volume)
	}
	if network := data["NetworkInterfaces"].([]any)[0].(map[string]any); network["AssociatePublicIpAddress"] != "false" || !slices.Equal(words(network["Groups"]), []string{"NodeSecurityGroup"}) {
		t.Errorf("the interface is %v, want no public address and the nodes' group", network)
	}
	if data["KeyName"] != nil {
		t.Error("there is a key for SSH, which nodes do not have")
	}
}

func TestAdditionalSecurityGroupsComeAfterTheNodesOwn(t *testing.T) {
	data := workers(t, with(map[string]string{"AdditionalSecurityGroupIds": "sg-0aaaaaaaaaaaaaaaa,sg-0bbbbbbbbbbbbbbbb"})).launchTemplate()
	want := []string{"NodeSecurityGroup", "sg-0aaaaaaaaaaaaaaaa", "sg-0bbbbbbbbbbbbbbbb"}
	if got := words(data["NetworkInterfaces"].([]any)[0].(map[string]any)["Groups"]); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheImageIsThatOfItsParameter(t *testing.T) {
	data := workers(t, with(map[string]string{"ImageId": "", "ImageParameter": "/ovenbird/stable/image_id:7"})).launchTemplate()
	if data["ImageId"] != "value of /ovenbird/stable/image_id:7" {
		t.Errorf("the image is %v", data["ImageId"])
	}
	// CloudFormation does not compare references, so another version has to show elsewhere.
	for _, specification := range data["TagSpecifications"].([]any) {
		if tags := specification.(map[string]any)["Tags"]; !slices.ContainsFunc(tags.([]any), func(tag any) bool {
			return tag.(map[string]any)["Value"] == "/ovenbird/stable/image_id:7"
		}) {
			t.Errorf("%v does not tell the image", tags)
		}
	}
}

func TestAGroupOfOneTypeAndNoSpotHasNoMixedInstances(t *testing.T) {
	tests := []struct {
		name  string
		given map[string]string
		types int // of overrides; 0: a launch template alone
		spot  bool
	}{
		{"one type", nil, 0, false},
		{"two types", map[string]string{"InstanceType3": "t3a.medium"}, 2, false},
		{"four types", map[string]string{"InstanceType2": "a1.large", "InstanceType3": "b1.large", "InstanceType4": "c1.large"}, 4, false},
		{"spot of one type", map[string]string{"OnDemandPercentage": "30"}, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			group := workers(t, with(tt.given)).properties("Workers")
			if group["CapacityRebalance"] != tt.spot {
				t.Errorf("capacity rebalance is %v", group["CapacityRebalance"])
			}
			mixed, ok := group["MixedInstancesPolicy"].(map[string]any)
			if ok != (tt.types > 0) || ok == (group["LaunchTemplate"] != nil) {
				t.Fatalf("got the policy %v and the launch template %v", mixed, group["LaunchTemplate"])
			}
			if ok {
				if overrides := mixed["LaunchTemplate"].(map[string]any)["Overrides"].([]any); len(overrides) != tt.types {
					t.Errorf("there are the types %v, want %d", overrides, tt.types)
				}
			}
		})
	}
}

func TestCreationWaitsForAsManyNodesAsTheGroupStartsWith(t *testing.T) {
	for desired, want := range map[string]string{"": "2", "3": "3"} {
		s := workers(t, with(map[string]string{"DesiredCapacity": desired}))
		r, _ := s.template.Resource("Workers")
		policy := s.resolve(r.Body["CreationPolicy"]).(map[string]any)["ResourceSignal"].(map[string]any)
		if policy["Count"] != want || policy["Timeout"] != "PT900S" {
			t.Errorf("with the desired capacity %q it waits for %v, %v", desired, policy["Count"], policy["Timeout"])
		}
		if got, given := s.properties("Workers")["DesiredCapacity"]; given != (desired != "") || given && got != desired {
			t.Errorf("the desired capacity is %v, want %q", got, desired)
		}
	}
}

func TestARoleOfSomebodyElseIsTaken(t *testing.T) {
	s := workers(t, with(map[string]string{"NodeRoleName": "ovenbird-node"}))
	if made := s.made(); slices.Contains(made, "NodeRole") || slices.Contains(made, "NodeInstanceProfile") {
		t.Errorf("%q are made", made)
	}
	if profile := s.launchTemplate()["IamInstanceProfile"].(map[string]any)["Name"]; profile != "ovenbird-node" {
		t.Errorf("instances have the profile %v", profile)
	}
}
