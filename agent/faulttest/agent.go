package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
)

// variable tells a test's program that it is the agent, and of which machine.
const variable = "OVENBIRD_FAULTTEST"

// machine is what the process needs to know to be on its machine.
type machine struct {
	Root string `json:"root"`
	// Started is CLOCK_BOOTTIME when the machine was started.
	Started time.Duration `json:"started"`
	Speed   int           `json:"speed"`
	Full    string        `json:"full,omitempty"` // a directory without any space left
}

// Enter makes the calling process the agent on its machine if a World started it, and
// returns the machine's clock. TestMain calls it before anything else.
func Enter() (clock boot.Clock, isAgent bool) {
	encoded, ok := os.LookupEnv(variable)
	if !ok {
		return nil, false
	}
	var m machine
	err := json.Unmarshal([]byte(encoded), &m)
	if err == nil {
		err = m.enter()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faulttest: enter the machine:", err)
		os.Exit(2)
	}
	return Clock{started: m.Started, speed: time.Duration(m.Speed)}, true
}

// enter changes into the machine's files. The process has a mount namespace of its own.
func (m machine) enter() error {
	for _, mount := range []struct{ from, to string }{{"/proc", "proc"}, {"/dev/null", "dev/null"}} {
		if err := unix.Mount(mount.from, filepath.Join(m.Root, mount.to), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", mount.from, err)
		}
	}
	if m.Full != "" {
		if err := fill(filepath.Join(m.Root, m.Full)); err != nil {
			return fmt.Errorf("fill %s: %w", m.Full, err)
		}
	}
	if err := unix.Chroot(m.Root); err != nil {
		return fmt.Errorf("change the root directory: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return os.Unsetenv(variable)
}

// aheadPath says by how much the machine's clock is ahead.
const aheadPath = "/run/clock-is-ahead"

// filler is the file that takes the space.
const filler = "filler"

// fill puts a small disk at path, with what is in it now, and fills it.
func fill(path string) error {
	handle, err := os.Open(path) // holds what the disk hides
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=512k"); err != nil {
		return err
	}
	kept := os.DirFS(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()))
	if err := os.CopyFS(path, kept); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(path, filler))
	if err != nil {
		return err
	}
	defer file.Close()
	page := make([]byte, 4<<10)
	for err == nil {
		_, err = file.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return nil
}

// Clock runs faster than time does while the agent waits between attempts, and since the
// machine started. What an attempt itself takes is real, and so are its deadlines: they
// bound real work.
type Clock struct {
	started time.Duration
	speed   time.Duration
}

// Now returns the time of day, by a clock that may be wrong.
func (Clock) Now() time.Time {
	text, err := os.ReadFile(aheadPath)
	if err != nil {
		return time.Now()
	}
	ahead, err := time.ParseDuration(string(text))
	if err != nil {
		panic(err) // World writes it whole
	}
	return time.Now().Add(ahead)
}

// SinceBoot returns for how long the machine has run: five seconds more than the World.
func (c Clock) SinceBoot() time.Duration {
	return 5*time.Second + (boot.SystemClock{}.SinceBoot()-c.started)*c.speed
}

// Sleep returns after d of this clock.
func (c Clock) Sleep(ctx context.Context, d time.Duration) error {
	return boot.SystemClock{}.Sleep(ctx, d/c.speed)
}
