package vm

import (
	"context"
	"errors"
	"fmt"
)

// DriveStats is what a guest has asked of its root drive since power-on, the firmware's
// reads included.
type DriveStats struct {
	ReadBytes       int64 `json:"readBytes"`
	ReadOperations  int64 `json:"readOperations"`
	WrittenBytes    int64 `json:"writtenBytes"`
	WriteOperations int64 `json:"writeOperations"`
	// SnapshotBlocks is how many blocks of SnapshotBlock bytes a cold volume has fetched.
	SnapshotBlocks int64 `json:"snapshotBlocks"`
}

// ReadStats asks the machine that runs in dir, through a control socket of its own;
// ErrNotRunning when there is none. One caller at a time is served.
func ReadStats(ctx context.Context, dir string) (DriveStats, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	conn, err := dial(dir, statsFile)
	if err != nil {
		return DriveStats{}, fmt.Errorf("ask for the drive's statistics: %w", err)
	}
	defer func() { _ = conn.Close() }()
	monitor, err := newQMP(ctx, conn)
	if err != nil {
		return DriveStats{}, fmt.Errorf("ask for the drive's statistics: %w", err)
	}
	var drives []struct {
		Device string `json:"device"`
		Stats  struct {
			ReadBytes       int64 `json:"rd_bytes"`
			ReadOperations  int64 `json:"rd_operations"`
			WrittenBytes    int64 `json:"wr_bytes"`
			WriteOperations int64 `json:"wr_operations"`
		} `json:"stats"`
	}
	if err := monitor.execute(ctx, "query-blockstats", &drives); err != nil {
		return DriveStats{}, fmt.Errorf("ask for the drive's statistics: %w", err)
	}
	for _, d := range drives {
		if d.Device == rootDrive {
			blocks, err := fetched(dir)
			return DriveStats{d.Stats.ReadBytes, d.Stats.ReadOperations, d.Stats.WrittenBytes, d.Stats.WriteOperations, blocks}, err
		}
	}
	return DriveStats{}, errors.New("ask for the drive's statistics: QEMU has no drive " + rootDrive)
}
