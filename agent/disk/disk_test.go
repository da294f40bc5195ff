package disk_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func TestDrives(t *testing.T) {
	type sysfs map[string][2]string // block device -> serial, model
	const store, volume = "Amazon EC2 NVMe Instance Storage        \n", "Amazon Elastic Block Store              \n"
	for name, test := range map[string]struct {
		blocks sysfs
		want   []disk.Drive
	}{
		"an EBS volume is not instance store": {
			sysfs{"nvme0n1": {"vol0a1b2c3d4e5f60718\n", volume}}, nil,
		},
		"drives come in the order of their serials, whatever they are called": {
			sysfs{"nvme0n1": {"vol0a1b2c3d4e5f60718\n", volume}, "nvme1n1": {"AWS2222          \n", store}, "nvme2n1": {"AWS1111\n", store}},
			[]disk.Drive{{Device: "/dev/nvme2n1", Serial: "AWS1111"}, {Device: "/dev/nvme1n1", Serial: "AWS2222"}},
		},
		"the serial suffices where the model is the hypervisor's": {
			sysfs{"nvme1n1": {"AWS1111\n", "QEMU NVMe Ctrl\n"}},
			[]disk.Drive{{Device: "/dev/nvme1n1", Serial: "AWS1111"}},
		},
		"an EBS model overrules the serial": {
			sysfs{"nvme1n1": {"AWS1111\n", volume}}, nil,
		},
		"paths, partitions and other devices are passed over": {
			sysfs{"nvme0c0n1": {"AWS1111\n", store}, "nvme0n1p1": {"AWS1111\n", store}, "sda": {"AWS1111\n", store}}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := rootfs.Root(t.TempDir())
			for block, values := range test.blocks {
				device := root.Join("/sys/block/" + block + "/device")
				if err := os.MkdirAll(device, 0o755); err != nil {
					t.Fatal(err)
				}
				for i, attribute := range []string{"serial", "model"} {
					if err := os.WriteFile(filepath.Join(device, attribute), []byte(values[i]), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := disk.Drives(root)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
	if got, err := disk.Drives(rootfs.Root(t.TempDir())); err != nil || got != nil {
		t.Errorf("without /sys: got %v, %v, want nothing", got, err)
	}
}

func TestPlanFor(t *testing.T) {
	two := []disk.Drive{{Device: "/dev/nvme2n1", Serial: "AWS1"}, {Device: "/dev/nvme1n1", Serial: "AWS2"}}
	members := []string{"/dev/nvme2n1", "/dev/nvme1n1"}
	for name, test := range map[string]struct {
		storage nodeconfig.LocalStorage
		drives  []disk.Drive
		want    disk.Plan
		err     string
	}{
		"no strategy leaves the drives alone":     {drives: two},
		"no drives are nothing to do":             {storage: nodeconfig.LocalStorage{Strategy: "RAID10"}},
		"RAID10 of one drive cannot be":           {storage: nodeconfig.LocalStorage{Strategy: "RAID10"}, drives: two[:1], err: "the instance has 1"},
		"a strategy that nobody knows is refused": {storage: nodeconfig.LocalStorage{Strategy: "RAID5"}, drives: two, err: `"RAID5"`},
		"RAID0 carries kubelet, containerd and pod logs": {
			storage: nodeconfig.LocalStorage{Strategy: "RAID0"}, drives: two,
			want: disk.Plan{
				Array:       &disk.Array{Name: "kubernetes", Device: "/dev/md/kubernetes", Level: 0, Members: members},
				FileSystems: []disk.FileSystem{{Device: "/dev/md/kubernetes", MountPoint: "/mnt/k8s-disks/0"}},
				Binds: []disk.Bind{
					{Source: "/mnt/k8s-disks/0/kubelet", Target: "/var/lib/kubelet"},
					{Source: "/mnt/k8s-disks/0/containerd", Target: "/var/lib/containerd"},
					{Source: "/mnt/k8s-disks/0/pods", Target: "/var/log/pods"},
				},
			},
		},
		"disabled mounts stay on the root volume": {
			storage: nodeconfig.LocalStorage{Strategy: "RAID10", MountPath: "/data", DisabledMounts: []string{"Containerd", "PodLogs"}}, drives: two,
			want: disk.Plan{
				Array:       &disk.Array{Name: "kubernetes", Device: "/dev/md/kubernetes", Level: 10, Members: members},
				FileSystems: []disk.FileSystem{{Device: "/dev/md/kubernetes", MountPoint: "/data/0"}},
				Binds:       []disk.Bind{{Source: "/data/0/kubelet", Target: "/var/lib/kubelet"}},
			},
		},
		"Mount counts drives from 1 and binds nothing": {
			storage: nodeconfig.LocalStorage{Strategy: "Mount"}, drives: two,
			want: disk.Plan{FileSystems: []disk.FileSystem{
				{Device: "/dev/nvme2n1", MountPoint: "/mnt/k8s-disks/1"},
				{Device: "/dev/nvme1n1", MountPoint: "/mnt/k8s-disks/2"},
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := disk.PlanFor(test.storage, test.drives)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}
