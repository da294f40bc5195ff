package disk

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// The strategies of spec.instance.localStorage.
const (
	RAID0  = "RAID0"  // one striped array of all drives
	RAID10 = "RAID10" // one striped and mirrored array of all drives
	Mount  = "Mount"  // a file system on each drive
)

// What spec.instance.localStorage.disabledMounts can name.
const (
	Containerd = "Containerd"
	PodLogs    = "PodLogs"
)

const (
	defaultMountPath = "/mnt/k8s-disks"
	arrayName        = "kubernetes" // mdadm's --name, as on Amazon's image
	arrayDevice      = "/dev/md/" + arrayName
	mirroredDrives   = 2 // mdadm's least for RAID10
)

// Plan is what to make of the drives. The zero Plan leaves them alone.
type Plan struct {
	Array       *Array
	FileSystems []FileSystem
	Binds       []Bind
}

// Array is a software RAID array, for mdadm.
type Array struct {
	Name    string
	Device  string // the array's own
	Level   int    // 0 or 10
	Members []string
}

// FileSystem is a device that is to be formatted when it is blank, and where it goes.
type FileSystem struct {
	Device     string
	MountPoint string
}

// Bind is a directory of the root volume whose place a directory of the array takes.
type Bind struct {
	Source string
	Target string
}

// PlanFor lays drives out as storage says. Mount points, and which directories move onto an
// array, are those of Amazon's image. No strategy, or no drives, is nothing to do. Too few
// drives, or a strategy that nobody knows, is an error.
func PlanFor(storage nodeconfig.LocalStorage, drives []Drive) (Plan, error) {
	if storage.Strategy == "" || len(drives) == 0 {
		return Plan{}, nil
	}
	mountPath := storage.MountPath
	if mountPath == "" {
		mountPath = defaultMountPath
	}
	switch storage.Strategy {
	case RAID0:
		return arrayPlan(0, mountPath, storage.DisabledMounts, drives), nil
	case RAID10:
		if len(drives) < mirroredDrives {
			return Plan{}, fmt.Errorf("lay out instance-store drives as RAID10: it takes %d drives, and the instance has %d: use RAID0, or another instance type",
				mirroredDrives, len(drives))
		}
		return arrayPlan(10, mountPath, storage.DisabledMounts, drives), nil
	case Mount:
		var plan Plan
		for i, drive := range drives {
			plan.FileSystems = append(plan.FileSystems, FileSystem{
				Device: drive.Device, MountPoint: path.Join(mountPath, strconv.Itoa(i+1)),
			})
		}
		return plan, nil
	}
	return Plan{}, fmt.Errorf("lay out instance-store drives: no strategy %q: want %s, %s or %s", storage.Strategy, RAID0, RAID10, Mount)
}

func arrayPlan(level int, mountPath string, disabled []string, drives []Drive) Plan {
	array := Array{Name: arrayName, Device: arrayDevice, Level: level}
	for _, drive := range drives {
		array.Members = append(array.Members, drive.Device)
	}
	mountPoint := path.Join(mountPath, "0")
	binds := []Bind{{Source: path.Join(mountPoint, "kubelet"), Target: "/var/lib/kubelet"}}
	if !slices.Contains(disabled, Containerd) {
		binds = append(binds, Bind{Source: path.Join(mountPoint, "containerd"), Target: "/var/lib/containerd"})
	}
	if !slices.Contains(disabled, PodLogs) {
		binds = append(binds, Bind{Source: path.Join(mountPoint, "pods"), Target: "/var/log/pods"})
	}
	return Plan{
		Array:       &array,
		FileSystems: []FileSystem{{Device: arrayDevice, MountPoint: mountPoint}},
		Binds:       binds,
	}
}
