package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/kubelet"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	// storageMarker holds what became of local storage since the machine started. With it
	// nothing moves any more: kubelet and containerd may run, whoever starts the agent again.
	storageMarker = "/run/ovenbird/storage.json"
	// swapDir is where the swap file lies without an array.
	swapDir = "/var/lib/ovenbird"
	// storageDeadline leaves time to read the image's containers from a volume that was just
	// made of a snapshot, some hundred MB at 5 MB/s and more.
	storageDeadline = 4 * time.Minute
	storageAttempt  = storageDeadline + time.Minute
)

// The states of local storage.
const (
	StorageReady    = "ready"
	StorageNoDrives = "no drives" // the instance type has none; the root volume carries the node
	StorageDegraded = "degraded"  // something failed; the root volume carries what is not in MountPoints
)

// LocalStorageStatus is what became of instance-store drives and of swap.
type LocalStorageStatus struct {
	Strategy    string   `json:"strategy,omitempty"` // of the NodeConfig
	State       string   `json:"state"`
	Devices     []string `json:"devices,omitempty"`     // the drives
	MountPoints []string `json:"mountPoints,omitempty"` // of what lies on the drives
	Swap        string   `json:"swap,omitempty"`        // the file
	Error       string   `json:"error,omitempty"`
}

// warning is what is told of storage that is degraded.
func (l *LocalStorageStatus) warning() string {
	return "local storage: " + l.Error + ". " + advice.Storage
}

func (s Status) storageProblem() string {
	if s.LocalStorage == nil || s.LocalStorage.Error == "" {
		return ""
	}
	return s.LocalStorage.warning()
}

// prepareStorage lays out the instance-store drives and makes swap, as the NodeConfig says,
// once after each start of the machine. What fails is told of and nothing more: the node
// joins on its root volume. An error is the agent's own.
func (n *node) prepareStorage(ctx context.Context, tell func(string)) error {
	spec := n.facts.UserData.Spec
	swap := kubelet.WantsSwap(spec.Kubelet.Config)
	if spec.Instance.LocalStorage.Strategy == "" && !swap {
		return nil
	}
	result, err := readStorage(n.Root)
	if errors.Is(err, fs.ErrNotExist) {
		result = n.layOut(ctx, tell, swap)
		if err := ctx.Err(); err != nil {
			return err // it comes again, with nothing in use yet
		}
		if result.Error != "" {
			n.Log.Warn("local storage is degraded", zap.String("error", result.Error))
			n.reporter.tell(n.Clock.SinceBoot().Seconds(), "local storage is degraded: %s", result.Error)
		}
		var data []byte
		if data, err = json.Marshal(result); err == nil {
			err = n.Root.Apply(rootfs.File{Path: storageMarker, Data: data})
		}
	}
	if err != nil {
		return fmt.Errorf("keep what became of local storage: %w", err)
	}
	n.runner.describe(func(s *Status) {
		s.LocalStorage = result
		if result.Error != "" {
			s.warn(result.warning())
		}
	})
	return nil
}

func readStorage(root rootfs.Root) (*LocalStorageStatus, error) {
	data, err := os.ReadFile(root.Join(storageMarker))
	if err != nil {
		return nil, err
	}
	var result LocalStorageStatus
	return &result, json.Unmarshal(data, &result)
}

func (n *node) layOut(ctx context.Context, tell func(string), swap bool) *LocalStorageStatus {
	ctx, cancel := context.WithTimeoutCause(ctx, storageDeadline, overdue(storageDeadline))
	defer cancel()
	storage := n.facts.UserData.Spec.Instance.LocalStorage
	result := &LocalStorageStatus{Strategy: storage.Strategy, State: StorageReady}
	var err error
	dir := swapDir
	if storage.Strategy != "" {
		var drives []disk.Drive
		var plan disk.Plan
		if drives, err = disk.Drives(n.Root); err == nil {
			for _, drive := range drives {
				result.Devices = append(result.Devices, drive.Device)
			}
			plan, err = disk.PlanFor(storage, drives)
		}
		if err == nil && len(drives) == 0 {
			result.State = StorageNoDrives
		}
		if err == nil {
			result.MountPoints, err = plan.Apply(ctx, n.Root, n.Disks, tell)
		}
		if plan.Array != nil && slices.Contains(result.MountPoints, plan.FileSystems[0].MountPoint) {
			dir = plan.FileSystems[0].MountPoint
		}
	}
	if swap {
		tell("swap")
		var swapErr error
		result.Swap, swapErr = disk.Swap(ctx, n.Root, n.Disks, dir, n.MemoryMiB)
		err = errors.Join(err, swapErr)
	}
	if err != nil {
		result.State, result.Error = StorageDegraded, oneLine(err.Error())
	}
	return result
}
