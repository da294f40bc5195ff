package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/access"
	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// execution is what `exec` is asked for.
type execution struct {
	detach       bool
	log, pidfile string
}

func execCommand(p *place) *cobra.Command {
	var e execution
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARG]...",
		Short: "Run a command inside the lab",
		Long: `Run a command in the lab's network, with the lab's resolver and an environment in which
AWS clients talk to the lab. With --detach the command goes on by itself, until it ends
or the lab is taken down.`,
		Example: `  ovenbird-lab exec -- curl --cacert .ovenbird/lab/ca.crt https://aws.lab.internal/
  ovenbird-lab exec --detach --log serve.log --pidfile serve.pid -- ovenbird serve`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&e.detach, "detach", false, "leave the command running")
	cmd.Flags().StringVar(&e.log, "log", "", "file that a detached command's output is added to")
	cmd.Flags().StringVar(&e.pidfile, "pidfile", "", "file for a detached command's process ID")
	// What follows the command's name is the command's.
	cmd.Flags().SetInterspersed(false)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if !e.detach && (e.log != "" || e.pidfile != "") {
			return cli.Usage(errors.New("--log and --pidfile go with --detach"))
		}
		if os.Geteuid() != 0 {
			return errors.New("exec: needs root, to enter the lab's network namespace; try sudo")
		}
		dir, lab, err := p.running()
		if err != nil {
			return err
		}
		env, err := access.Inside(dir, lab, p.plan)
		if err != nil {
			return err
		}
		program, err := exec.LookPath(args[0])
		if err != nil {
			return fmt.Errorf("exec: find %s: %w", args[0], err)
		}
		// The thread is changed for good; it ends with this process or becomes the command.
		runtime.LockOSThread()
		if err := enter(dir, lab.Name); err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		if e.detach {
			return e.start(program, args, environment(env))
		}
		if err := syscall.Exec(program, args, environment(env)); err != nil { //nolint:gosec // running it is the purpose
			return fmt.Errorf("exec: run %s: %w", program, err)
		}
		return nil
	}
	return cmd
}

// enter moves this thread into the lab's network, and into a mount namespace of its own
// where /etc/resolv.conf is the lab's.
func enter(dir state.Dir, name string) error {
	if err := namespace.Enter(name); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// Slave: the host sees nothing of what is mounted here, and what it unmounts goes here too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts away from the host: %w", err)
	}
	const resolv = "/etc/resolv.conf"
	if _, err := os.Stat(resolv); err != nil {
		return fmt.Errorf("give the command the lab's resolver: this machine has no %s to put it over: %w", resolv, err)
	}
	if err := unix.Mount(dir.Resolv(), resolv, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("give the command the lab's resolver: %w", err)
	}
	return nil
}

// environment is this process's, with the lab's variables in place of the host's.
func environment(lab map[string]string) []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if _, replaced := lab[name]; !replaced && !slices.Contains(access.Unset(), name) {
			env = append(env, pair)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lab)) {
		env = append(env, name+"="+lab[name])
	}
	return env
}

// start leaves the command running in a session of its own.
func (e execution) start(program string, args, env []string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	log := null
	if e.log != "" {
		if log, err = os.OpenFile(e.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return fmt.Errorf("exec: open the command's log: %w", err)
		}
	}
	// Not CommandContext: the command outlives this process.
	cmd := &exec.Cmd{Path: program, Args: args, Env: env, Stdin: null, Stdout: log, Stderr: log}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("exec: start %s: %w", program, err)
	}
	if e.pidfile == "" {
		return nil
	}
	if err := renameio.WriteFile(e.pidfile, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("exec: write the command's process ID: %w", err)
	}
	return nil
}
