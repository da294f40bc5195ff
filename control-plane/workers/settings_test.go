package workers_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/cloudformation"
	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
)

func number(n int) *int { return &n }

func yes(b bool) *bool { return &b }

// written are values as one line, in the order of their names.
func written(values map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, name+"="+values[name])
	}
	return strings.Join(list, " ")
}

func TestSettingsBecomeParameters(t *testing.T) {
	before := map[string]string{"MinSize": "2", "MaxSize": "4"}
	for name, test := range map[string]struct {
		settings workers.Settings
		want     string
		err      string
	}{
		"nothing said": {},
		"so many nodes": {settings: workers.Settings{Nodes: number(3)},
			want: "ClusterAutoscaler=false DesiredCapacity=3 MaxSize=4 MinInstancesInService=3 MinSize=3"},
		"no nodes": {settings: workers.Settings{Nodes: number(0)},
			want: "ClusterAutoscaler=false DesiredCapacity=0 MaxSize=1 MinInstancesInService=0 MinSize=0"},
		"from so many to so many": {settings: workers.Settings{Min: number(1), Max: number(9)},
			want: "ClusterAutoscaler=true DesiredCapacity= MaxSize=9 MinInstancesInService=1 MinSize=1"},
		"another upper bound beside the lower one that there is": {settings: workers.Settings{Max: number(2)},
			want: "ClusterAutoscaler=true DesiredCapacity= MaxSize=2 MinInstancesInService=1 MinSize=2"},
		"less than no node":       {settings: workers.Settings{Nodes: number(-1)}, err: "a group has no fewer than 0 nodes"},
		"bounds that cross":       {settings: workers.Settings{Min: number(5)}, err: "there would be at least 5 and at most 4"},
		"a number and bounds":     {settings: workers.Settings{Nodes: number(1), Max: number(2)}, err: "want --nodes, or --min and --max"},
		"an image":                {settings: workers.Settings{Image: "ami-1"}, want: "ImageId=ami-1 ImageParameter="},
		"an image by a parameter": {settings: workers.Settings{ImageParameter: "/a:1"}, want: "ImageId= ImageParameter=/a:1"},
		"two images":              {settings: workers.Settings{Image: "ami-1", ImageParameter: "/a:1"}, err: "want --ami or --ami-parameter, not both"},
		"types, which replace those that there were": {settings: workers.Settings{InstanceTypes: []string{"m7i.large", "m7a.large"}},
			want: "InstanceType=m7i.large InstanceType2=m7a.large InstanceType3= InstanceType4="},
		"too many types":      {settings: workers.Settings{InstanceTypes: []string{"a", "b", "c", "d", "e"}}, err: "want at most 4 instance types"},
		"spot":                {settings: workers.Settings{Spot: yes(true)}, want: "OnDemandPercentage=0"},
		"no spot":             {settings: workers.Settings{Spot: yes(false)}, want: "OnDemandPercentage=100"},
		"labels and taints":   {settings: workers.Settings{Labels: []string{"a=b", "c=d"}, Taints: []string{"e=f:NoSchedule"}}, want: "NodeLabels=a=b,c=d NodeTaints=e=f:NoSchedule"},
		"two labels in one":   {settings: workers.Settings{Labels: []string{"a=b,c=d"}}, err: "want one label or taint each time"},
		"texts and the rest":  {settings: workers.Settings{NodeConfig: "n", Script: "s", Trusted: "t", Role: "r", VolumeSize: number(50), Subnets: []string{"subnet-1", "subnet-2"}}, want: "ExtraNodeConfig=n NodeRoleName=r ShellScript=s SubnetIds=subnet-1,subnet-2 TrustedCertificates=t VolumeSize=50"},
		"a parameter's own":   {settings: workers.Settings{Nodes: number(3), Others: map[string]string{"MaxSize": "6"}}, want: "ClusterAutoscaler=false DesiredCapacity=3 MaxSize=6 MinInstancesInService=3 MinSize=3"},
		"a script too long":   {settings: workers.Settings{Script: strings.Repeat("x", 4097)}, err: "ShellScript is 4097 bytes, more than the 4096 that CloudFormation takes"},
		"a script just so":    {settings: workers.Settings{Script: strings.Repeat("x", 4096)}, want: "ShellScript=" + strings.Repeat("x", 4096)},
		"nobody's parameters": {settings: workers.Settings{Others: map[string]string{"Nobody": "x"}}, want: "Nobody=x"}, // the template's to refuse
	} {
		t.Run(name, func(t *testing.T) {
			values, err := test.settings.Parameters(before)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("settings: %v, want %s", err, test.err)
				}
				return
			}
			if got := written(values); err != nil || got != test.want {
				t.Errorf("settings are %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestTheClusterSaysWhereItsWorkersAre(t *testing.T) {
	for name, test := range map[string]struct {
		cluster workers.Cluster
		want    string
		network string
		err     string
	}{
		"an address of the service's own": {
			cluster: workers.Cluster{Name: "demo", Endpoint: "https://10.0.0.10:6443", Authority: "Q0E=", ServiceCIDR: "10.100.0.0/16"},
			want:    "ApiServerPort=6443 ClusterCertificateAuthority=Q0E= ClusterEndpoint=https://10.0.0.10:6443 ClusterName=demo ClusterSecurityGroupId= ClusterServiceCidr=10.100.0.0/16 ClusterType=ovenbird ControlPlaneCidr=10.0.0.10/32",
			network: "SubnetIds=subnet-1,subnet-2 VpcId=vpc-1",
		},
		"Amazon EKS, with its security group": {
			cluster: workers.Cluster{Name: "demo", Endpoint: "https://0A1B.gr7.us-west-2.eks.amazonaws.com", Authority: "Q0E=", ServiceCIDR: "10.100.0.0/16", SecurityGroupID: "sg-1"},
			want:    "ApiServerPort=443 ClusterCertificateAuthority=Q0E= ClusterEndpoint=https://0A1B.gr7.us-west-2.eks.amazonaws.com ClusterName=demo ClusterSecurityGroupId=sg-1 ClusterServiceCidr=10.100.0.0/16 ClusterType=eks ControlPlaneCidr=",
			network: "AdditionalSecurityGroupIds=sg-1 SubnetIds=subnet-1,subnet-2 VpcId=vpc-1",
		},
		"a name that tells no address": {
			cluster: workers.Cluster{Name: "demo", Endpoint: "https://api.example.com"}, err: "--parameter ControlPlaneCidr=BLOCK",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.cluster.VPCID, test.cluster.SubnetIDs = "vpc-1", []string{"subnet-1", "subnet-2"}
			values, err := test.cluster.Parameters()
			if err != nil {
				t.Fatal(err)
			}
			values["ImageId"] = "ami-1"
			err = workers.Complete(values)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("complete: %v, want %s", err, test.err)
				}
				if block, said := values["ControlPlaneCidr"]; said {
					t.Errorf("an update would take away the block that somebody gave, for %q", block)
				}
				return
			}
			delete(values, "ImageId")
			if got := written(values); err != nil || got != test.want {
				t.Errorf("the parameters are %q, %v, want %q", got, err, test.want)
			}
			if got := written(test.cluster.Network(nil)); got != test.network {
				t.Errorf("nodes are in %q, want %q", got, test.network)
			}
		})
	}
	if err := workers.Complete(map[string]string{"ControlPlaneCidr": "10.0.0.10/32"}); err == nil || !strings.Contains(err.Error(), "--ami") {
		t.Errorf("without an image: %v", err)
	}
}

// Whatever is filled in has its place in the template, and nothing that must be given is missing.
func TestTheTemplateHasWhatIsFilledIn(t *testing.T) {
	template, err := workers.ParseTemplate([]byte(cloudformation.Workers))
	if err != nil {
		t.Fatal(err)
	}
	cluster := workers.Cluster{Name: "demo", Endpoint: "https://10.0.0.10:6443", VPCID: "vpc-1", SubnetIDs: []string{"subnet-1"}}
	values, err := cluster.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(values, cluster.Network(nil))
	for _, s := range []workers.Settings{
		{Nodes: number(2), InstanceTypes: []string{"t3.medium"}, Image: "ami-1", Spot: yes(true), Subnets: []string{"subnet-1"}, Labels: []string{"a=b"}, Taints: []string{"a=b:NoSchedule"},
			NodeConfig: "n", Script: "s", Trusted: "t", VolumeSize: number(20), Role: "r"},
		{Min: number(2), Max: number(3), ImageParameter: "/a:1"},
	} {
		said, err := s.Parameters(template.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(values, said)
	}
	for name := range values {
		if _, ok := template.Parameters[name]; !ok {
			t.Errorf("the template has no parameter %s", name)
		}
	}
	for name, p := range template.Parameters {
		if _, given := values[name]; p.Default == nil && !given {
			t.Errorf("nothing fills in %s", name)
		}
	}
	for _, name := range []string{"MinSize", "MaxSize"} {
		if _, err := fmt.Sscan(template.Defaults()[name], new(int)); err != nil {
			t.Errorf("%s has no number as its default: %v", name, err)
		}
	}
}
