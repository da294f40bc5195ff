package containerd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Accelerator is a kind of device that pods compute on.
type Accelerator string

// The kinds that EC2 has and something here depends on.
const (
	NVIDIA Accelerator = "nvidia" // GPUs
	Neuron Accelerator = "neuron" // Inferentia and Trainium
)

// nvidiaRuntime is where NVIDIA's package nvidia-container-toolkit puts its runtime, and
// where nodeadm looks for it.
const nvidiaRuntime = "/usr/bin/nvidia-container-runtime"

// neuronDevices are the PCI devices of Amazon's that are Neuron's: inf1, trn1, inf2 and trn2
// by neuron_device.h of aws-neuron/aws-neuron-driver. The last two, trn3, are in its
// neuron_dhal_v4.c by name; their figures are at second hand.
var neuronDevices = []string{
	"0x7064", "0x7065", "0x7066", "0x7067", "0x7164", "0x7264", "0x7364",
	"0x7564", "0x7565",
}

// Accelerators are the kinds of accelerators of a machine, and what its image has for them.
type Accelerators struct {
	Kinds []Accelerator // each once, sorted

	nvidiaRuntime bool
	drivers       []Accelerator // those of Kinds whose kernel module the image has
}

// FindAccelerators looks for accelerators among the PCI devices of the machine under root. A
// machine without PCI has none.
func FindAccelerators(root rootfs.Root) (Accelerators, error) {
	const devices = "/sys/bus/pci/devices"
	entries, err := os.ReadDir(root.Join(devices))
	if err != nil && !os.IsNotExist(err) {
		return Accelerators{}, fmt.Errorf("look for accelerators: %w", err)
	}
	var kinds []Accelerator
	for _, entry := range entries {
		attribute := func(name string) string {
			// One that is being taken away is none.
			data, _ := os.ReadFile(root.Join(devices + "/" + entry.Name() + "/" + name))
			return strings.TrimSpace(string(data))
		}
		if kind := accelerator(attribute); kind != "" {
			kinds = append(kinds, kind)
		}
	}
	return AcceleratorsOf(root, kinds), nil
}

// AcceleratorsOf returns accelerators of these kinds with what the image under root has for them.
func AcceleratorsOf(root rootfs.Root, kinds []Accelerator) Accelerators {
	kinds = slices.Clone(kinds)
	slices.Sort(kinds)
	found := Accelerators{Kinds: slices.Compact(kinds)}
	info, err := os.Stat(root.Join(nvidiaRuntime))
	found.nvidiaRuntime = err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
	for _, kind := range found.Kinds {
		if hasDriver(root, kind) {
			found.drivers = append(found.drivers, kind)
		}
	}
	return found
}

// accelerator returns the kind of a PCI device, "" for any other, by its files in sysfs:
// 0x and 4 digits of vendor and device, 6 of class.
func accelerator(attribute func(name string) string) Accelerator {
	switch attribute("vendor") {
	case "0x10de":
		// Of display controllers, those for VGA and for 3D: an NVSwitch, say, is a bridge.
		if class := attribute("class"); strings.HasPrefix(class, "0x0300") || strings.HasPrefix(class, "0x0302") {
			return NVIDIA
		}
	case "0x1d0f":
		if slices.Contains(neuronDevices, attribute("device")) {
			return Neuron
		}
	}
	return ""
}

// hasDriver tells whether a kernel of the image has a module for kind, loaded or not: it may
// come after the agent has looked.
func hasDriver(root rootfs.Root, kind Accelerator) bool {
	modules := map[Accelerator][]string{
		NVIDIA: {"/nvidia.ko", "/nvidia-current.ko"}, // the latter is Debian's own
		Neuron: {"/neuron.ko"},
	}[kind]
	lists, _ := filepath.Glob(root.Join("/usr/lib/modules/*/modules.dep")) // the pattern is a good one
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err == nil && slices.ContainsFunc(modules, func(module string) bool { return bytes.Contains(data, []byte(module)) }) {
			return true
		}
	}
	return false
}

// useNVIDIA tells whether containers get NVIDIA's runtime. Without devices runc does as well,
// on the same image; without the runtime no pod would start.
func (a Accelerators) useNVIDIA() bool {
	return a.nvidiaRuntime && slices.Contains(a.Kinds, NVIDIA)
}

// Warnings returns what the image lacks for the accelerators, a line each.
func (a Accelerators) Warnings() []string {
	var warnings []string
	lacks := func(kind Accelerator, what string) {
		warnings = append(warnings, fmt.Sprintf("pods cannot use the %s devices here: the image has no %s; bake one that has it (docs/nodes.md, GPUs and Neuron)", kind, what))
	}
	for _, kind := range a.Kinds {
		if !slices.Contains(a.drivers, kind) {
			lacks(kind, "driver, "+driverPackages[kind])
		}
		if kind == NVIDIA && !a.nvidiaRuntime {
			lacks(kind, nvidiaRuntime+", of NVIDIA's package nvidia-container-toolkit")
		}
	}
	return warnings
}

// driverPackages are by whose packages a driver comes.
var driverPackages = map[Accelerator]string{
	NVIDIA: "such as NVIDIA's package nvidia-open",
	Neuron: "AWS's package aws-neuronx-dkms",
}

// ParseAccelerators reads names of kinds.
func ParseAccelerators(names []string) ([]Accelerator, error) {
	var kinds []Accelerator
	for _, name := range names {
		kind := Accelerator(name)
		if kind != NVIDIA && kind != Neuron {
			return nil, fmt.Errorf("%q is none: want %s or %s", name, NVIDIA, Neuron)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}
