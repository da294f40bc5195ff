package boot_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// disks are a machine's drives. They note which programs ran and what was mounted.
type disks struct {
	root rootfs.Root
	fail string // the step that fails
	did  []string
}

func (d *disks) note(step string) error {
	d.did = append(d.did, step)
	if step == d.fail {
		return errors.New(step + ": failed")
	}
	return nil
}

func (d *disks) Run(_ context.Context, program string, args ...string) (string, error) {
	if err := d.note(program); err != nil {
		return "", err
	}
	switch program {
	case "mdadm":
		return "", d.root.Apply(
			rootfs.File{Path: "/sys/block/md127/md/level", Data: []byte("raid0\n")},
			rootfs.File{Path: "/sys/block/nvme1n1/holders/md127", Data: []byte{}},
			rootfs.File{Path: "/sys/block/nvme2n1/holders/md127", Data: []byte{}},
		)
	case "cp":
		return "", os.Mkdir(args[len(args)-1], 0o755)
	}
	return "", nil
}

func (d *disks) Mount(_, target, _ string, _ uintptr) error {
	return d.note("mount " + strings.TrimPrefix(target, string(d.root)))
}

// withStorage is a world with two instance-store drives, whose NodeConfig has more lines.
func withStorage(t *testing.T, more string) *world {
	t.Helper()
	w := newWorld(t)
	w.metadata.Set("user-data", strings.Replace(w.userData(""), "  instance:\n", "  instance:\n    localStorage: {strategy: RAID0}\n", 1)+more)
	w.addFiles(map[string]string{
		"/proc/self/mountinfo":             "1 1 0:1 / / rw - ext4 /dev/root rw\n",
		"/proc/swaps":                      "Filename Type Size Used Priority\n",
		"/sys/block/nvme1n1/device/serial": "AWS1\n", "/sys/block/nvme1n1/holders/none": "",
		"/sys/block/nvme2n1/device/serial": "AWS2\n", "/sys/block/nvme2n1/holders/none": "",
	})
	for _, drive := range []string{"nvme1n1", "nvme2n1"} {
		if err := os.Remove(w.root.Join("/sys/block/" + drive + "/holders/none")); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) addFiles(files map[string]string) {
	w.t.Helper()
	for path, content := range files {
		if err := w.root.Apply(rootfs.File{Path: path, Data: []byte(content)}); err != nil {
			w.t.Fatal(err)
		}
	}
}

const limitedSwap = "  kubelet: {config: {memorySwap: {swapBehavior: LimitedSwap}}}\n"

func TestDrivesAndSwapAreReadyBeforeTheUnitsStart(t *testing.T) {
	w := withStorage(t, limitedSwap)
	w.units.containerd = func() {
		if last := w.disks.did[len(w.disks.did)-1]; last != "swapon" {
			t.Errorf("containerd starts after %q", w.disks.did)
		}
	}
	status := w.mustJoin()
	want := &boot.LocalStorageStatus{
		Strategy: "RAID0", State: boot.StorageReady, Devices: []string{"/dev/nvme1n1", "/dev/nvme2n1"},
		MountPoints: []string{"/mnt/k8s-disks/0", "/var/lib/kubelet", "/var/lib/containerd", "/var/log/pods"},
		Swap:        "/mnt/k8s-disks/0/swap",
	}
	if !reflect.DeepEqual(status.LocalStorage, want) || len(status.Warnings) > 0 {
		t.Errorf("got %+v, %q", status.LocalStorage, status.Warnings)
	}
	if got := w.condition("LocalStorageDegraded"); got.Status != corev1.ConditionFalse || got.Reason != "LocalStorageHealthy" {
		t.Errorf("got %+v", got)
	}
	if config := w.read("/etc/kubernetes/kubelet/config.json"); !strings.Contains(config, `"failSwapOn": false`) {
		t.Errorf("kubelet would not start:\n%s", config)
	}

	var table strings.Builder
	if err := status.Print(&table, 0); err != nil || !strings.Contains(table.String(), "local storage: ready /dev/nvme1n1 /dev/nvme2n1 /mnt/k8s-disks/0 ") {
		t.Errorf("got %v:\n%s", err, table.String())
	}

	did := slices.Clone(w.disks.did)
	if again := w.mustJoin(); !reflect.DeepEqual(again.LocalStorage, want) || !slices.Equal(w.disks.did, did) {
		t.Errorf("another start of the agent did %q: %+v", w.disks.did[len(did):], again.LocalStorage)
	}
}

func TestANodeJoinsWhateverItsDrivesDo(t *testing.T) {
	for _, step := range []string{"wipefs", "mdadm", "mkfs.ext4", "mount /mnt/k8s-disks/0", "cp", "mount /var/lib/kubelet", "mount /var/log/pods", "mkswap", "swapon"} {
		t.Run(step, func(t *testing.T) {
			w := withStorage(t, limitedSwap)
			w.disks.fail = step
			status := w.mustJoin()
			if got := status.LocalStorage; got == nil || got.State != boot.StorageDegraded || !strings.Contains(got.Error, step+": failed") {
				t.Errorf("got %+v", got)
			}
			if len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "a reboot tries again") {
				t.Errorf("got %q", status.Warnings)
			}
			if got := w.condition("LocalStorageDegraded"); got.Status != corev1.ConditionTrue || !strings.Contains(got.Message, step+": failed") {
				t.Errorf("got %+v", got)
			}
			if got := w.condition("NodeConfigWarnings"); got.Status != corev1.ConditionFalse {
				t.Errorf("it is told twice: %+v", got)
			}
			// With kubelet running, another start of the agent moves nothing below it.
			w.disks.fail, w.disks.did = "", nil
			if again := w.mustJoin(); !reflect.DeepEqual(again.LocalStorage, status.LocalStorage) || w.disks.did != nil {
				t.Errorf("another start of the agent did %q: %+v", w.disks.did, again.LocalStorage)
			}
		})
	}
}

func TestAnInstanceWithoutDrivesSaysSo(t *testing.T) {
	w := withStorage(t, "")
	if err := os.RemoveAll(w.root.Join("/sys/block")); err != nil {
		t.Fatal(err)
	}
	status := w.mustJoin()
	if want := (&boot.LocalStorageStatus{Strategy: "RAID0", State: boot.StorageNoDrives}); !reflect.DeepEqual(status.LocalStorage, want) || len(status.Warnings) > 0 {
		t.Errorf("got %+v, %q", status.LocalStorage, status.Warnings)
	}
}

func TestANodeThatAsksForNoneTouchesNoDrive(t *testing.T) {
	w := withStorage(t, "")
	w.metadata.Set("user-data", w.userData(""))
	if status := w.mustJoin(); status.LocalStorage != nil || w.disks.did != nil {
		t.Errorf("got %+v after %q", status.LocalStorage, w.disks.did)
	}
}
