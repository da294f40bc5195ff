// Package tree runs commands in a Debian root file system that is laid out in a
// directory. Each command gets mount, PID, IPC and UTS namespaces of its own: what it
// mounts and what it starts end with it, so that a cancelled or killed build leaves
// neither a mount nor a process. Nothing here mounts anything that another process of
// the machine can see.
package tree

import (
	"context"
	_ "embed"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed enter.sh
var enter string

// Tree is a root file system in a directory.
type Tree struct {
	Dir   string    // absolute path
	Binds []Bind    // what each command sees of the machine
	Epoch time.Time // SOURCE_DATE_EPOCH of each command, unless it is zero
}

// Bind is a file or directory of the machine that a command sees in the tree.
type Bind struct {
	Source string // on the machine, absolute
	Target string // in the tree, absolute; unless it is below /run, it must exist there
}

// Command returns a command that runs in the tree. It needs root. Cancelling the
// context kills everything that the command has started; Wait returns after that.
func (t Tree) Command(ctx context.Context, binds []Bind, name string, args ...string) *exec.Cmd {
	argv := []string{"-c", enter, "enter", t.Dir}
	for _, b := range slices.Concat(t.Binds, binds) {
		argv = append(argv, b.Source, b.Target)
	}
	argv = append(argv, "--", name)
	cmd := exec.CommandContext(ctx, "/bin/sh", append(argv, args...)...)
	cmd.Env = Environment(t.Epoch)
	cmd.Dir = "/"
	Isolate(cmd)
	return cmd
}

// Isolate makes cmd process 1 of new namespaces that die with it, and have it die with
// this process. Mounts still propagate until cmd itself makes them private.
func Isolate(cmd *exec.Cmd) {
	// Files that this process was started with stay out of the command too. Older
	// kernels lack the call; there the command merely sees more than it should.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		// A Ctrl-C in the terminal reaches the build through Packer, not its children.
		Setpgid: true,
	}
}

// Environment is what a command in a tree sees of the machine's: how to reach the
// network, and nothing else that could change what it does. Programs that honour
// SOURCE_DATE_EPOCH take epoch for today's date, unless it is zero.
func Environment(epoch time.Time) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"USER=root",
		"LANG=C.UTF-8",
		"LC_ALL=C.UTF-8",
		"TZ=UTC",
		"DEBIAN_FRONTEND=noninteractive",
		"SYSTEMD_OFFLINE=1", // systemctl edits the tree and talks to no manager
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	if !epoch.IsZero() {
		env = append(env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(epoch.Unix(), 10))
	}
	return env
}
