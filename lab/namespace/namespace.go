// Package namespace makes, enters and removes the network namespace that a lab lives in.
// Namespaces are named as iproute2 names them (/run/netns/<name>), so that `ip netns`
// sees them too. Nothing here touches the namespace of the caller.
package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// directory is where iproute2 keeps named namespaces.
const directory = "/run/netns"

// nsfsMagic is the file system type of a namespace file (NSFS_MAGIC in linux/magic.h).
const nsfsMagic = 0x6e736673

// Path is the file that stands for the namespace.
func Path(name string) string { return filepath.Join(directory, name) }

// Exists tells whether the namespace is there. A bare file that a crash left behind is
// not one.
func Exists(name string) (bool, error) {
	var s unix.Statfs_t
	switch err := unix.Statfs(Path(name), &s); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at namespace %s: %w", name, err)
	}
	return s.Type == nsfsMagic, nil
}

// Create makes the namespace. It must not exist.
func Create(name string) error {
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear the way for namespace %s: %w", name, err)
	}
	err := onOwnThread(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		return ns.Close()
	})
	if err != nil {
		return errors.Join(fmt.Errorf("make network namespace %s: %w", name, err), Delete(name))
	}
	return nil
}

// Delete removes the namespace's name; the namespace itself goes with its last process.
// Deleting what is not there is no error.
func Delete(name string) error {
	err := unix.Unmount(Path(name), unix.MNT_DETACH)
	// EINVAL: the file is there and nothing is mounted on it.
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// Do runs f on a thread inside the namespace. What f starts (sockets, processes) belongs
// to the namespace; goroutines that f starts do not.
func Do(name string, f func() error) error {
	ns, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer func() { _ = ns.Close() }()
	return onOwnThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", name, err)
		}
		return f()
	})
}

// Enter moves the calling thread into the namespace for good. The caller has locked its
// goroutine to the thread and never unlocks it.
func Enter(name string) error {
	ns, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer func() { _ = ns.Close() }()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	return nil
}

// onOwnThread runs f on a thread that may change its namespace, and puts the thread's
// namespace back. A thread that cannot be put back is never used again.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function ended its goroutine")
		defer func() { done <- err }()
		runtime.LockOSThread()
		before, openErr := netns.Get()
		if openErr != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("open this thread's network namespace: %w", openErr)
			return
		}
		defer func() {
			if netns.Set(before) == nil {
				runtime.UnlockOSThread()
			}
			_ = before.Close()
		}()
		err = f()
	}()
	return <-done
}
