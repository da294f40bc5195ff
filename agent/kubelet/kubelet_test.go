package kubelet

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	kjson "sigs.k8s.io/json"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs/rootfstest"
)

func input() Input {
	return Input{
		Minor:    37,
		NodeName: "ip-10-0-1-5.us-west-2.compute.internal", NodeIP: netip.MustParseAddr("10.0.1.5"),
		ProviderID: "aws:///us-west-2a/i-0123456789abcdef0", InstanceType: "t3.medium", Region: "us-west-2", Zone: "us-west-2a",
		CPUs: 2, MemoryMiB: 3900,
		ClusterCA: []byte("-----BEGIN CERTIFICATE-----\n"), ClusterDNS: netip.MustParseAddr("10.100.0.10"),
	}
}

func TestFilesAreTheGoldenOnes(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"user": func(in *Input) {
			in.UserConfig = map[string]any{"maxPods": int64(50), "clusterDNS": []any{"169.254.20.10"}, "evictionHard": map[string]any{"memory.available": "5%"}}
			in.UserFlags = []string{"--node-labels=team=a,tier=b", `--register-with-taints=a="b":NoSchedule`}
		},
		"amazon": func(in *Input) { in.Tokens, in.CloudController = true, true },
		"1.33":   func(in *Input) { in.Minor = 33 },
		"1.34":   func(in *Input) { in.Minor = 34 },
		"1.35":   func(in *Input) { in.Minor = 35 },
		"1.36":   func(in *Input) { in.Minor = 36 },
		"1.37":   func(in *Input) { in.Minor = 37 },
		"ipv6": func(in *Input) {
			in.NodeIP, in.ClusterDNS = netip.MustParseAddr("2600:1f14::7"), netip.MustParseAddr("fd12:3456::a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			change(&in)
			files, err := Files(in)
			if err != nil {
				t.Fatal(err)
			}
			rootfstest.Golden(t, name, files)
		})
	}
}

func TestAMinorNewerThanTheTableIsConfiguredAsTheLast(t *testing.T) {
	in := input()
	last, err := Files(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Minor = 38
	newer, err := Files(in)
	if err != nil || !reflect.DeepEqual(newer, last) {
		t.Errorf("got %v, %v", newer, err)
	}
}

func TestAMinorOlderThanTheTableIsRefused(t *testing.T) {
	in := input()
	in.Minor = 32
	if _, err := Files(in); err == nil || err.Error() != "configure kubelet 1.32: the oldest that is supported is 1.33" {
		t.Errorf("got %v", err)
	}
}

func TestKubeletKnowsEveryFieldThatIsWritten(t *testing.T) {
	in := input()
	in.UserConfig = map[string]any{"maxPods": int64(50)}
	files, err := Files(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{configPath, userConfigPath} {
		strict, err := kjson.UnmarshalStrict(find(t, files, path), &kubeletconfig.KubeletConfiguration{})
		if err != nil || len(strict) > 0 {
			t.Errorf("%s: %v %v", path, err, strict)
		}
	}
}

func find(t *testing.T, files []rootfs.File, path string) []byte {
	t.Helper()
	for _, file := range files {
		if file.Path == path {
			return file.Data
		}
	}
	t.Fatalf("no %s among the files", path)
	return nil
}

func TestReservedCPUFollowsTheBands(t *testing.T) {
	for cpus, want := range map[int]int{1: 60, 2: 70, 3: 75, 4: 80, 5: 82, 6: 85, 47: 187, 48: 190} {
		if got := reservedCPU(cpus); got != want {
			t.Errorf("%d cores: got %dm, want %dm", cpus, got, want)
		}
	}
}

func TestMaxPodsOfAnInstanceType(t *testing.T) {
	// As EC2's published limits give them.
	for instanceType, want := range map[string]int{
		"t3.nano": 4, "t3.small": 11, "t3a.small": 8, "t3.medium": 17, "t3.large": 35, "t3.2xlarge": 58, "t4g.medium": 17,
		"m5.large": 29, "m5.xlarge": 58, "m5.4xlarge": 234, "m5.24xlarge": 737, "m6g.medium": 8, "m6i.32xlarge": 737,
		"c5.9xlarge": 234, "c5.18xlarge": 737, "c6i.large": 29, "c7g.medium": 8, "r6i.2xlarge": 58, "m7i.metal-48xl": 737,
		"p5.48xlarge": 100, "m6in.32xlarge": 394, "p4d.24xlarge": 737, // more cards than one
		"x99.unheard-of": 110, "": 110, "t3": 110, "medium": 110, "t3.medium 3": 110, "#": 110,
	} {
		if got := maxPodsOf(instanceType); got != want {
			t.Errorf("%s: got %d, want %d", instanceType, got, want)
		}
	}
}

func TestReservedMemoryFollowsThePodsUpToWhatANodeCanSpare(t *testing.T) {
	for name, test := range map[string]struct {
		memoryMiB, pods int
		want            string
	}{
		"t3.nano is capped":                            {440, 4, "110Mi"},
		"t3.micro is capped":                           {930, 4, "232Mi"},
		"t3.small with its own pods":                   {1910, 11, "376Mi"},
		"t3.small with prefix delegation is capped":    {1910, 110, "477Mi"},
		"t3.medium with its own pods":                  {3900, 17, "442Mi"},
		"t3.medium with prefix delegation is capped":   {3900, 110, "975Mi"},
		"c5.large with its own pods":                   {3700, 29, "574Mi"},
		"m5.large with prefix delegation":              {7800, 110, "1465Mi"},
		"m5.large with the most pods is capped":        {7800, 250, "1764Mi"},
		"c5.4xlarge with its own pods":                 {31000, 234, "2829Mi"},
		"c5.18xlarge with its own pods":                {141000, 737, "8362Mi"},
		"m5.24xlarge with its own pods":                {380000, 737, "8362Mi"},
		"c8i.4xlarge with its own pods is capped":      {31000, 394, "3538Mi"},
		"u-24tb1.metal with more pods than anyone has": {24 << 20, 4096, "45311Mi"},
		"a machine whose memory nobody knows":          {0, 110, "1465Mi"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kubeReserved(2, test.memoryMiB, test.pods)["memory"]; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestTheReservesLeaveMemoryOnEveryMachine(t *testing.T) {
	// kubelet does not start when they do not.
	for memoryMiB := 400; memoryMiB < 4096; memoryMiB++ {
		if left := memoryMiB - mostReserved(memoryMiB) - systemMemory - evictionMemory; left < memoryMiB/4 {
			t.Fatalf("of %d MiB %d are left for pods", memoryMiB, left)
		}
	}
}

func TestTheTableOfInstanceTypesIsSortedAndWhole(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(instanceTypes, "\n"), "\n")[2:]
	var types []string
	for _, line := range lines {
		instanceType, _, _ := strings.Cut(line, " ")
		types = append(types, instanceType)
		if l, known := limitsOf(instanceType); !known || l.pods() < 4 || fmt.Sprintf("%s %d %d", instanceType, l.interfaces, l.addresses) != line {
			t.Errorf("%q is read as %+v", line, l)
		}
	}
	if len(types) < 1000 || !slices.IsSorted(types) || len(slices.Compact(types)) != len(lines) {
		t.Errorf("%d lines are too few, not sorted or not unique", len(lines))
	}
}

func BenchmarkLookup(b *testing.B) {
	for b.Loop() {
		limitsOf("z1d.xlarge")
	}
}

func TestTheUsersMaxPodsWinAndMemoryIsReservedForThem(t *testing.T) {
	const expression = "default_enis * ips_per_eni + max_pods" // 35 on a t3.medium
	for name, test := range map[string]struct {
		config     map[string]any
		flags      []string
		expression string
		pods       int
		memory     string
	}{
		"the instance type's":          {nil, nil, "", 17, "442Mi"},
		"the expression's":             {nil, nil, expression, 35, "640Mi"},
		"the configuration's":          {map[string]any{"maxPods": int64(50)}, nil, expression, 50, "805Mi"},
		"a flag's":                     {map[string]any{"maxPods": int64(50)}, []string{"--max-pods=20"}, expression, 20, "475Mi"},
		"the last flag's":              {nil, []string{"--max-pods=20", "--v=2 --max-pods 30"}, "", 30, "585Mi"},
		"another flag does not matter": {nil, []string{"--max-pods-per-core=3"}, "", 17, "442Mi"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.UserConfig, in.UserFlags, in.MaxPodsExpression = test.config, test.flags, test.expression
			files, err := Files(in)
			if err != nil {
				t.Fatal(err)
			}
			var got kubeletconfig.KubeletConfiguration
			if err := kjson.UnmarshalCaseSensitivePreserveInts(find(t, files, configPath), &got); err != nil {
				t.Fatal(err)
			}
			if int(got.MaxPods) != test.pods || got.KubeReserved["memory"] != test.memory {
				t.Errorf("got %d pods and %s, want %d and %s", got.MaxPods, got.KubeReserved["memory"], test.pods, test.memory)
			}
		})
	}
}

func TestAMaxPodsThatIsNoneIsRefused(t *testing.T) {
	for want, change := range map[string]func(*Input){
		`spec.kubelet.flags: --max-pods: "x" is not a number of pods`:          func(in *Input) { in.UserFlags = []string{"--max-pods=x"} },
		`spec.kubelet.flags: --max-pods: "3000000000" is not a number of pods`: func(in *Input) { in.UserFlags = []string{"--max-pods=3000000000"} },
		`spec.kubelet.maxPodsExpression, on a t3.medium: it gives 0, want 1 to 2147483647 (with default_enis 3, ips_per_eni 6, max_pods 17)`: func(in *Input) {
			in.MaxPodsExpression = "max_pods - 17"
		},
		`spec.kubelet.maxPodsExpression, on a x99.large: it needs ips_per_eni, which this image does not know of the instance type; set spec.kubelet.config.maxPods instead`: func(in *Input) {
			in.InstanceType, in.MaxPodsExpression = "x99.large", "ips_per_eni"
		},
		`spec.kubelet.config.maxPods: "0" is not a number of pods`: func(in *Input) { in.UserConfig = map[string]any{"maxPods": 0} },
	} {
		in := input()
		change(&in)
		if _, err := Files(in); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
