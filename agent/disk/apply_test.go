package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// machine is a machine with two drives below a directory. It notes what is done to it.
type machine struct {
	t     *testing.T
	root  rootfs.Root
	holds map[string]string // by device, what wipefs finds there
	fail  string            // the step that begins so fails
	did   []string
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, root: rootfs.Root(t.TempDir()), holds: map[string]string{}}
	if err := m.root.Apply(
		rootfs.File{Path: "/proc/self/mountinfo", Data: []byte("1 1 0:1 / / rw - ext4 /dev/root rw\n")},
		rootfs.File{Path: "/proc/swaps", Data: []byte("Filename Type Size Used Priority\n")},
		rootfs.File{Path: "/var/lib/containerd/images", Data: []byte("baked in")},
	); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	return m
}

// reboot leaves what is on the drives.
func (m *machine) reboot() {
	m.did = nil
	for _, drive := range []string{"nvme1n1", "nvme2n1"} {
		dir := m.root.Join("/sys/block/" + drive + "/holders")
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
			m.t.Fatal(err)
		}
	}
	m.write("/proc/self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/root rw\n")
	m.write("/proc/swaps", "Filename Type Size Used Priority\n")
}

func (m *machine) write(path, content string) {
	if err := m.root.Apply(rootfs.File{Path: path, Data: []byte(content)}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) add(path, line string) {
	data, err := os.ReadFile(m.root.Join(path))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(path, string(data)+line)
}

func (m *machine) note(step string) error {
	step = strings.ReplaceAll(step, string(m.root), "")
	m.did = append(m.did, step)
	if m.fail != "" && strings.HasPrefix(step, m.fail) {
		return fmt.Errorf("%s: failed", step)
	}
	return nil
}

func (m *machine) Run(ctx context.Context, program string, args ...string) (string, error) {
	if program == "wipefs" {
		return m.holds[args[len(args)-1]] + "\n", nil
	}
	if err := m.note(program + " " + strings.Join(args, " ")); err != nil {
		return "", err
	}
	switch program {
	case "mdadm":
		level := "raid0"
		if slices.Contains(args, "--level=10") {
			level = "raid10"
		}
		m.write("/sys/block/md127/md/level", level+"\n")
		for _, drive := range []string{"nvme1n1", "nvme2n1"} {
			m.write("/sys/block/"+drive+"/holders/md127", "")
			m.holds["/dev/"+drive] = "linux_raid_member"
		}
	case "mkfs.ext4":
		m.holds[args[len(args)-1]] = "ext4"
	case "swapon":
		m.add("/proc/swaps", strings.TrimPrefix(args[0], string(m.root))+" file 1 0 -2\n")
	case "cp":
		return "", exec.CommandContext(ctx, program, args...).Run()
	}
	return "", nil
}

func (m *machine) Mount(source, target, fileSystem string, flags uintptr) error {
	if err := m.note(strings.TrimSpace(fmt.Sprintf("mount %s %s %s", source, target, fileSystem))); err != nil {
		return err
	}
	if bind := flags&unix.MS_BIND != 0; bind != (fileSystem == "") {
		m.t.Errorf("mount %s has flags %x", target, flags)
	}
	if _, err := os.Stat(target); err != nil {
		m.t.Errorf("the mount point: %v", err)
	}
	m.add("/proc/self/mountinfo", "2 1 0:2 / "+strings.TrimPrefix(target, string(m.root))+" rw - ext4 x rw\n")
	return nil
}

func (m *machine) apply(strategy string) ([]string, error) {
	m.t.Helper()
	plan, err := disk.PlanFor(nodeconfig.LocalStorage{Strategy: strategy}, []disk.Drive{{Device: "/dev/nvme1n1", Serial: "AWS1"}, {Device: "/dev/nvme2n1", Serial: "AWS2"}})
	if err != nil {
		m.t.Fatal(err)
	}
	return plan.Apply(m.t.Context(), m.root, m, func(string) {})
}

const (
	create   = "mdadm --create /dev/md/kubernetes --run --force --name=kubernetes --homehost=any --level=0 --raid-devices=2 /dev/nvme1n1 /dev/nvme2n1"
	assemble = "mdadm --assemble --run /dev/md/kubernetes /dev/nvme1n1 /dev/nvme2n1"
	mkfs     = "mkfs.ext4 -q -m 0 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "
	disks    = "/mnt/k8s-disks/0"
)

var (
	carried = []string{
		"cp -a --one-file-system -- /var/lib/kubelet " + disks + "/kubelet.partial",
		"cp -a --one-file-system -- /var/lib/containerd " + disks + "/containerd.partial",
		"cp -a --one-file-system -- /var/log/pods " + disks + "/pods.partial",
	}
	bound = []string{
		"mount " + disks + "/kubelet /var/lib/kubelet",
		"mount " + disks + "/containerd /var/lib/containerd",
		"mount " + disks + "/pods /var/log/pods",
	}
	moved = []string{disks, "/var/lib/kubelet", "/var/lib/containerd", "/var/log/pods"}
)

func (m *machine) mustHaveDone(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(m.did, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(m.did, "\n"), strings.Join(want, "\n"))
	}
}

func TestBlankDrivesBecomeAnArrayThatARebootFindsAgain(t *testing.T) {
	m := newMachine(t)
	got, err := m.apply("RAID0")
	if err != nil || !reflect.DeepEqual(got, moved) {
		t.Fatalf("got %q, %v", got, err)
	}
	m.mustHaveDone(t, slices.Concat([]string{create, mkfs + "/dev/md127", "mount /dev/md127 " + disks + " ext4"}, carried, bound)...)
	if data, err := os.ReadFile(m.root.Join(disks + "/containerd/images")); string(data) != "baked in" {
		t.Errorf("the images: %q, %v", data, err)
	}

	m.did = nil
	if got, err := m.apply("RAID0"); err != nil || !reflect.DeepEqual(got, moved) {
		t.Fatalf("got %q, %v", got, err)
	}
	m.mustHaveDone(t) // nothing is left to do

	m.reboot()
	if got, err := m.apply("RAID0"); err != nil || !reflect.DeepEqual(got, moved) {
		t.Fatalf("got %q, %v", got, err)
	}
	m.mustHaveDone(t, slices.Concat([]string{assemble, "mount /dev/md127 " + disks + " ext4"}, bound)...)
}

func TestMountGivesEachDriveAFileSystem(t *testing.T) {
	m := newMachine(t)
	if got, err := m.apply("Mount"); err != nil || !reflect.DeepEqual(got, []string{"/mnt/k8s-disks/1", "/mnt/k8s-disks/2"}) {
		t.Fatalf("got %q, %v", got, err)
	}
	m.mustHaveDone(t, mkfs+"/dev/nvme1n1", "mount /dev/nvme1n1 /mnt/k8s-disks/1 ext4", mkfs+"/dev/nvme2n1", "mount /dev/nvme2n1 /mnt/k8s-disks/2 ext4")
}

func TestEveryStepCanFailAndComeAgain(t *testing.T) {
	steps := slices.Concat([]string{"mdadm", "mkfs.ext4", "mount /dev/md127"}, carried, bound)
	for i, step := range steps {
		t.Run(step, func(t *testing.T) {
			m := newMachine(t)
			m.fail = step
			got, err := m.apply("RAID0")
			if err == nil || !strings.Contains(err.Error(), step) {
				t.Fatalf("got %v", err)
			}
			if i < 6 && len(got) > 1 {
				t.Errorf("%q moved before everything was carried over", got)
			}
			if data, err := os.ReadFile(m.root.Join("/var/lib/containerd/images")); string(data) != "baked in" {
				t.Errorf("the root volume lacks the images: %q, %v", data, err)
			}
			m.fail = ""
			if got, err := m.apply("RAID0"); err != nil || !reflect.DeepEqual(got, moved) {
				t.Errorf("again: got %q, %v", got, err)
			}
		})
	}
}

func TestACopyThatWasCutOffDoesNotCount(t *testing.T) {
	m := newMachine(t)
	m.write(disks+"/containerd.partial/half", "half")
	if _, err := m.apply("RAID0"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(m.root.Join(disks + "/containerd"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "images" {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestDataIsNeverDestroyed(t *testing.T) {
	for name, test := range map[string]struct {
		strategy string
		holds    map[string]string
		fail     string
		want     string
		did      []string
	}{
		"a drive with a file system does not become a member": {
			"RAID0", map[string]string{"/dev/nvme2n1": "xfs"}, "", "/dev/nvme2n1 holds xfs, which is left alone", nil,
		},
		"a member of an array is not formatted": {
			"Mount", map[string]string{"/dev/nvme1n1": "linux_raid_member"}, "", "/dev/nvme1n1 holds linux_raid_member", nil,
		},
		"a partition table is not overwritten": {
			"Mount", map[string]string{"/dev/nvme1n1": "gpt\nPMBR"}, "", "/dev/nvme1n1 holds gpt PMBR", nil,
		},
		"another file system on the array is not": {
			"RAID0", map[string]string{"/dev/nvme1n1": "linux_raid_member", "/dev/nvme2n1": "linux_raid_member", "/dev/md127": "xfs"}, "",
			"/dev/md127 holds xfs", []string{assemble},
		},
		"a complete array that cannot be assembled is not made anew": {
			"RAID0", map[string]string{"/dev/nvme1n1": "linux_raid_member", "/dev/nvme2n1": "linux_raid_member"}, assemble, "failed", []string{assemble},
		},
		"an array of another level stays": {
			"RAID10", map[string]string{"/dev/nvme1n1": "linux_raid_member", "/dev/nvme2n1": "linux_raid_member"}, "",
			"array /dev/md127 is raid0, not raid10", []string{assemble},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.holds, m.fail = test.holds, test.fail
			if _, err := m.apply(test.strategy); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			m.mustHaveDone(t, test.did...)
		})
	}
}

func TestAnArrayWhoseMakingWasCutOffIsMade(t *testing.T) {
	m := newMachine(t)
	m.holds["/dev/nvme1n1"], m.fail = "linux_raid_member", assemble
	if got, err := m.apply("RAID0"); err != nil || !reflect.DeepEqual(got, moved) {
		t.Fatalf("got %q, %v", got, err)
	}
	if !slices.Equal(m.did[:2], []string{assemble, create}) {
		t.Errorf("got %q", m.did)
	}
}

func TestSwapIsMadeOnceAndUsedAtEveryStart(t *testing.T) {
	m := newMachine(t)
	swap := func() {
		t.Helper()
		if got, err := disk.Swap(t.Context(), m.root, m, "/var/lib/ovenbird", 64); err != nil || got != "/var/lib/ovenbird/swap" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	m.fail = "mkswap"
	if _, err := disk.Swap(t.Context(), m.root, m, "/var/lib/ovenbird", 64); err == nil {
		t.Error("mkswap failed, and nobody said so")
	}
	if left, err := filepath.Glob(m.root.Join("/var/lib/ovenbird/*")); err != nil || left != nil {
		t.Errorf("what failed leaves %q, %v", left, err)
	}
	m.fail, m.did = "", nil
	swap()
	m.mustHaveDone(t, "mkswap /var/lib/ovenbird/swap.partial", "swapon /var/lib/ovenbird/swap")
	info, err := os.Stat(m.root.Join("/var/lib/ovenbird/swap"))
	if err != nil || info.Mode() != 0o600 || info.Size() != 64<<20 {
		t.Errorf("got %v, %v", info, err)
	}
	m.did = nil
	swap()
	m.mustHaveDone(t)
	m.reboot()
	swap()
	m.mustHaveDone(t, "swapon /var/lib/ovenbird/swap")
}

func TestSwapSize(t *testing.T) {
	for name, test := range map[string]struct {
		memoryMiB  int
		free, want int64
	}{
		"as much as memory":         {2000, 100 << 30, 2000 << 20},
		"8 GiB at most":             {1 << 20, 1 << 40, 8 << 30},
		"a quarter of what is free": {4096, 4<<30 + 12345, 1 << 30},
		"of unknown memory":         {0, 1 << 40, 8 << 30},
		"none of a full disk":       {4096, 0, 0},
	} {
		if got := disk.SwapSize(test.memoryMiB, test.free); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

// TestTheSystem formats, mounts and moves on a real loop device, without an array.
func TestTheSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "drive")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	system := disk.System{}
	out, err := system.Run(t.Context(), "losetup", "--find", "--show", image)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	device := strings.TrimSpace(out)
	kubelet, store := filepath.Join(dir, "kubelet"), filepath.Join(dir, "store")
	t.Cleanup(func() {
		for _, target := range []string{kubelet, store} {
			_ = unix.Unmount(target, 0)
		}
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	if err := os.MkdirAll(kubelet, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kubelet, "key"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	plan := disk.Plan{
		FileSystems: []disk.FileSystem{{Device: device, MountPoint: store}},
		Binds:       []disk.Bind{{Source: filepath.Join(store, "kubelet"), Target: kubelet}},
	}
	for range 2 {
		got, err := plan.Apply(t.Context(), "/", system, func(step string) { t.Log(step) })
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
			t.Skipf("no mounts here: %v", err)
		}
		if err != nil || len(got) != 2 {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	var there, here unix.Stat_t
	if err := errors.Join(unix.Stat(filepath.Join(kubelet, "key"), &there), unix.Stat(image, &here)); err != nil {
		t.Fatal(err)
	}
	if there.Dev == here.Dev || there.Mode&0o777 != 0o600 {
		t.Errorf("the key is on device %d with mode %o", there.Dev, there.Mode)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := system.Run(ctx, "sleep", "60"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := system.Run(t.Context(), "sh", "-c", "echo first; echo last >&2; exit 3"); err == nil || !strings.HasSuffix(err.Error(), "exit status 3: last") {
		t.Errorf("got %v", err)
	}
}
