package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// instance is the right to be the one service of a state directory. The kernel takes it
// back when the process ends, however that happens.
type instance struct{ file *os.File }

func lockPath(stateDir string) string { return filepath.Join(stateDir, "lock") }

// errRunning says that another service has the state directory.
var errRunning = errors.New("a service is already running")

// claim makes this process the instance of stateDir.
func claim(stateDir string) (*instance, error) {
	file, err := os.OpenFile(lockPath(stateDir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim state directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w in %s (process %s): stop it first, or give this one another --state-dir", errRunning, stateDir, holder(file))
		}
		return nil, fmt.Errorf("claim state directory: %w", err)
	}
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim state directory: %w", err), file.Close())
	}
	return &instance{file}, nil
}

func (i *instance) release() error { return i.file.Close() }

func holder(file *os.File) string {
	data, _ := io.ReadAll(io.NewSectionReader(file, 0, 32))
	return strings.TrimSpace(string(data))
}

// endInstance tells the service of stateDir, if there is one, to stop and waits until it
// has. The lock is what tells: as long as it is held, the number in it is its holder's.
func endInstance(ctx context.Context, stateDir string) (*instance, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for told := false; ; {
		mine, err := claim(stateDir)
		if !errors.Is(err, errRunning) {
			return mine, err
		}
		if !told {
			data, err := os.ReadFile(lockPath(stateDir))
			if err != nil {
				return nil, fmt.Errorf("find the running service: %w", err)
			}
			// Empty for the moment in which another service claims the directory.
			if pid, err := strconv.Atoi(string(data)); err == nil {
				if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
					return nil, fmt.Errorf("stop the running service, process %d: %w", pid, err)
				}
				told = true
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the running service does not stop: %w", context.Cause(ctx))
		}
	}
}
