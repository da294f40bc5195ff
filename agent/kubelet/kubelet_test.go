package kubelet

import (
	"net/netip"
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
		CPUs:      2,
		ClusterCA: []byte("-----BEGIN CERTIFICATE-----\n"), ClusterDNS: netip.MustParseAddr("10.100.0.10"),
	}
}

func TestFilesAreTheGoldenOnes(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"plain": func(*Input) {},
		"user": func(in *Input) {
			in.UserConfig = map[string]any{"maxPods": int64(50), "clusterDNS": []any{"169.254.20.10"}, "evictionHard": map[string]any{"memory.available": "5%"}}
			in.UserFlags = []string{"--node-labels=team=a,tier=b", `--register-with-taints=a="b":NoSchedule`}
		},
		"amazon": func(in *Input) { in.Tokens, in.CloudController = true, true },
		"1.33":   func(in *Input) { in.Minor = 33 },
		"1.34":   func(in *Input) { in.Minor = 34 },
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
		"x99.unheard-of": 110,
	} {
		if got := maxPodsOf(instanceType); got != want {
			t.Errorf("%s: got %d, want %d", instanceType, got, want)
		}
	}
}

func TestTheUsersMaxPodsWinAndMemoryIsReservedForThem(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]any
		flags  []string
		pods   int
		memory string
	}{
		"the instance type's":          {nil, nil, 17, "442Mi"},
		"the configuration's":          {map[string]any{"maxPods": int64(50)}, nil, 50, "805Mi"},
		"a flag's":                     {map[string]any{"maxPods": int64(50)}, []string{"--max-pods=20"}, 20, "475Mi"},
		"the last flag's":              {nil, []string{"--max-pods=20", "--v=2 --max-pods 30"}, 30, "585Mi"},
		"another flag does not matter": {nil, []string{"--max-pods-per-core=3"}, 17, "442Mi"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.UserConfig, in.UserFlags = test.config, test.flags
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
		`spec.kubelet.flags: --max-pods: "x" is not a number of pods`: func(in *Input) { in.UserFlags = []string{"--max-pods=x"} },
		`spec.kubelet.config.maxPods: "0" is not a number of pods`:    func(in *Input) { in.UserConfig = map[string]any{"maxPods": 0} },
	} {
		in := input()
		change(&in)
		if _, err := Files(in); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
