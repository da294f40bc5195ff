package containerd_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/containerd"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const nvidiaRuntime = "/usr/bin/nvidia-container-runtime"

// device is a PCI device as sysfs shows it.
type device struct{ vendor, device, class string }

// machine returns the root of a machine with devices, and with files of its image, all of
// which are programs.
func machine(t *testing.T, devices map[string]device, image ...string) rootfs.Root {
	t.Helper()
	root := rootfs.Root(t.TempDir())
	var files []rootfs.File
	for address, d := range devices {
		dir := "/sys/bus/pci/devices/" + address
		files = append(files,
			rootfs.File{Path: dir + "/vendor", Data: []byte(d.vendor + "\n")},
			rootfs.File{Path: dir + "/device", Data: []byte(d.device + "\n")},
			rootfs.File{Path: dir + "/class", Data: []byte(d.class + "\n")})
	}
	for _, path := range image {
		files = append(files, rootfs.File{Path: path, Mode: 0o755, Data: []byte{}})
	}
	if err := root.Apply(files...); err != nil {
		t.Fatal(err)
	}
	return root
}

// nvidia returns the accelerators of a machine with a GPU and a runtime for it.
func nvidia(t *testing.T) containerd.Accelerators {
	t.Helper()
	return containerd.AcceleratorsOf(machine(t, nil, nvidiaRuntime), []containerd.Accelerator{containerd.NVIDIA})
}

func TestAcceleratorsAreAmongThePCIDevices(t *testing.T) {
	// What every instance has: NVMe, ENA and the console of EC2.
	ordinary := map[string]device{
		"0000:00:03.0": {"0x1d0f", "0x1111", "0x030000"},
		"0000:00:04.0": {"0x1d0f", "0x8061", "0x010802"},
		"0000:00:05.0": {"0x1d0f", "0xec20", "0x020000"},
	}
	for name, test := range map[string]struct {
		devices []device
		want    []containerd.Accelerator
	}{
		"none on most instances":               {nil, nil},
		"a T4 of a g4dn":                       {[]device{{"0x10de", "0x1eb8", "0x030200"}}, []containerd.Accelerator{containerd.NVIDIA}},
		"a GPU that has VGA":                   {[]device{{"0x10de", "0x2237", "0x030000"}}, []containerd.Accelerator{containerd.NVIDIA}},
		"several are one kind":                 {[]device{{"0x10de", "0x20b0", "0x030200"}, {"0x10de", "0x20b0", "0x030200"}}, []containerd.Accelerator{containerd.NVIDIA}},
		"an NVSwitch without a GPU is none":    {[]device{{"0x10de", "0x1af1", "0x068000"}}, nil},
		"a sound device of NVIDIA's is none":   {[]device{{"0x10de", "0x228b", "0x040300"}}, nil},
		"another vendor's GPU is none":         {[]device{{"0x1002", "0x7362", "0x030000"}}, nil},
		"inf1":                                 {[]device{{"0x1d0f", "0x7064", "0x088000"}, {"0x1d0f", "0x7067", "0x088000"}}, []containerd.Accelerator{containerd.Neuron}},
		"trn1":                                 {[]device{{"0x1d0f", "0x7164", "0x088000"}}, []containerd.Accelerator{containerd.Neuron}},
		"inf2":                                 {[]device{{"0x1d0f", "0x7264", "0x088000"}}, []containerd.Accelerator{containerd.Neuron}},
		"trn2":                                 {[]device{{"0x1d0f", "0x7364", "0x088000"}}, []containerd.Accelerator{containerd.Neuron}},
		"trn3":                                 {[]device{{"0x1d0f", "0x7564", "0x088000"}}, []containerd.Accelerator{containerd.Neuron}},
		"that number of another vendor's":      {[]device{{"0x10de", "0x7364", "0x088000"}}, nil},
		"both, which EC2 has on no instance":   {[]device{{"0x1d0f", "0x7364", "0x088000"}, {"0x10de", "0x1eb8", "0x030200"}}, []containerd.Accelerator{containerd.Neuron, containerd.NVIDIA}},
		"one that is being taken away is none": {[]device{{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			devices := maps.Clone(ordinary)
			for i, d := range test.devices {
				devices[fmt.Sprintf("0000:00:1%d.0", i)] = d
			}
			got, err := containerd.FindAccelerators(machine(t, devices))
			if err != nil || !slices.Equal(got.Kinds, test.want) {
				t.Errorf("got %q, %v", got.Kinds, err)
			}
		})
	}
}

func TestAMachineWithoutPCIHasNoAccelerators(t *testing.T) {
	if got, err := containerd.FindAccelerators(rootfs.Root(t.TempDir())); err != nil || got.Kinds != nil {
		t.Errorf("got %q, %v", got.Kinds, err)
	}
}

func TestNVIDIAsRuntimeNeedsItsDevicesAndItsProgram(t *testing.T) {
	gpu := []containerd.Accelerator{containerd.NVIDIA}
	for name, test := range map[string]struct {
		image []string
		kinds []containerd.Accelerator
		want  bool
	}{
		"both":                    {[]string{nvidiaRuntime}, gpu, true},
		"no program":              {nil, gpu, false},
		"no devices":              {[]string{nvidiaRuntime}, nil, false},
		"devices of another kind": {[]string{nvidiaRuntime}, []containerd.Accelerator{containerd.Neuron}, false},
		"a directory":             {[]string{nvidiaRuntime + "/x"}, gpu, false},
	} {
		if got := usesNVIDIA(t, containerd.AcceleratorsOf(machine(t, nil, test.image...), test.kinds)); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	root := machine(t, nil, nvidiaRuntime)
	if err := os.Chmod(root.Join(nvidiaRuntime), 0o644); err != nil {
		t.Fatal(err)
	}
	if usesNVIDIA(t, containerd.AcceleratorsOf(root, gpu)) {
		t.Error("a file that is no program became the runtime")
	}
}

func usesNVIDIA(t *testing.T, accelerators containerd.Accelerators) bool {
	t.Helper()
	files, err := containerd.Files(containerd.Input{PauseImage: pause, Accelerators: accelerators})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.Path == "/etc/containerd/conf.d/30-nvidia.toml" {
			return file.Data != nil
		}
	}
	t.Fatal("nothing says whether NVIDIA's file is there")
	return false
}

func TestWhatTheImageLacksForAcceleratorsIsWarnedOf(t *testing.T) {
	both := []containerd.Accelerator{containerd.NVIDIA, containerd.Neuron}
	for name, test := range map[string]struct {
		image   []string
		modules string // a line of modules.dep
		kinds   []containerd.Accelerator
		want    []string // what each warning has, in their order
	}{
		"nothing without accelerators": {nil, "", nil, nil},
		"all of it":                    {nil, "", both, []string{"aws-neuronx-dkms", "nvidia-open", "nvidia-container-toolkit"}},
		"the runtime":                  {nil, "updates/dkms/nvidia.ko.xz:\n", both[:1], []string{"nvidia-container-toolkit"}},
		"NVIDIA's driver":              {[]string{nvidiaRuntime}, "kernel/drivers/usb/typec/altmodes/typec_nvidia.ko.xz:\n", both[:1], []string{"nvidia-open"}},
		"nothing for NVIDIA":           {[]string{nvidiaRuntime}, "updates/dkms/nvidia-current.ko.xz:\n", both[:1], nil},
		"nothing for Neuron":           {nil, "updates/dkms/neuron.ko:\n", both[1:], nil},
	} {
		root := machine(t, nil, test.image...)
		if err := root.Apply(rootfs.File{Path: "/usr/lib/modules/6.12.1-cloud-amd64/modules.dep", Data: []byte(test.modules)}); err != nil {
			t.Fatal(err)
		}
		got := containerd.AcceleratorsOf(root, test.kinds).Warnings()
		if len(got) != len(test.want) {
			t.Errorf("%s: got %q", name, got)
			continue
		}
		for i, want := range test.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: got %q, want %s", name, got[i], want)
			}
		}
	}
}
