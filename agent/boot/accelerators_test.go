package boot_test

import (
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const nvidiaConfig = "/etc/containerd/conf.d/30-nvidia.toml"

// addGPU puts a T4 into the machine and its driver into the image.
func (w *world) addGPU() {
	w.t.Helper()
	const device = "/sys/bus/pci/devices/0000:00:1e.0/"
	if err := w.root.Apply(
		rootfs.File{Path: device + "vendor", Data: []byte("0x10de\n")},
		rootfs.File{Path: device + "device", Data: []byte("0x1eb8\n")},
		rootfs.File{Path: device + "class", Data: []byte("0x030200\n")},
		rootfs.File{Path: "/usr/lib/modules/6.12.48-cloud-amd64/modules.dep", Data: []byte("updates/dkms/nvidia.ko.xz:\n")},
	); err != nil {
		w.t.Fatal(err)
	}
}

func TestANodeWithAGPURunsContainersByNVIDIAsRuntime(t *testing.T) {
	w := newWorld(t)
	w.addGPU()
	if err := w.root.Apply(rootfs.File{Path: "/usr/bin/nvidia-container-runtime", Mode: 0o755, Data: []byte{}}); err != nil {
		t.Fatal(err)
	}
	status := w.mustJoin()
	if config := w.read(nvidiaConfig); !strings.Contains(config, "\ndefault_runtime_name = \"nvidia\"\n") {
		t.Errorf("containerd gets %s", config)
	}
	if len(status.Warnings) > 0 {
		t.Errorf("warnings are %q", status.Warnings)
	}
}

func TestANodeWithAGPUButNoRuntimeForItJoinsAndSaysSo(t *testing.T) {
	w := newWorld(t)
	w.addGPU()
	status := w.mustJoin()
	if !w.root.UpToDate(rootfs.File{Path: nvidiaConfig}) {
		t.Errorf("containerd gets a runtime that is not there: %s", w.read(nvidiaConfig))
	}
	if len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "nvidia-container-toolkit") {
		t.Errorf("warnings are %q", status.Warnings)
	}
}
