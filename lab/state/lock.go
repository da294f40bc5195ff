package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrBusy is what Lock answers while another command changes the lab.
var ErrBusy = errors.New("another ovenbird-lab command is changing this lab; try again when it is done")

// Lock keeps other `up` and `down` commands out until unlock is called or the process
// ends. The directory must exist. The lock is on the directory itself, so that `down` can
// remove it while holding the lock.
func (d Dir) Lock() (unlock func(), err error) {
	dir, err := os.Open(string(d))
	if err != nil {
		return nil, fmt.Errorf("lock the lab: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock the lab in %s: %w", d, err)
	}
	// A `down` that held the lock until now has removed what this lock is on.
	held, err := dir.Stat()
	if err == nil {
		var now fs.FileInfo
		if now, err = os.Stat(string(d)); err == nil && !os.SameFile(held, now) {
			err = ErrBusy
		}
	}
	if err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("lock the lab in %s: %w", d, err)
	}
	return func() { _ = dir.Close() }, nil
}

// HoldDaemon makes the calling process the lab's daemon until it ends. It fails when
// there is one already.
func (d Dir) HoldDaemon() error {
	// Never closed: a POSIX lock lasts as long as its process, and names it to GETLK.
	fd, err := unix.Open(d.daemonLock(), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", d.daemonLock(), err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("become the lab's daemon: another one is at work in %s: %w", d, err)
	}
	return nil
}

// Daemon is the process ID of the lab's daemon; not ok when none runs.
func (d Dir) Daemon() (pid int, ok bool) {
	fd, err := unix.Open(d.daemonLock(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Close(fd) }()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return 0, false
	}
	return int(lock.Pid), true
}
