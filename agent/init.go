package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/doctor"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func initCommand() *cobra.Command {
	var root, userData, metadata, identityFlag string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make this instance a Ready node",
		Long: `init makes this instance a Ready node and returns when it is one. With --root it only
writes, under a directory, the files that a node would get: it starts nothing, calls nobody
and needs no EC2.`,
		Example: `  ovenbird-agent init
  ovenbird-agent init --root /tmp/node --user-data nodeconfig.yaml
  ovenbird-agent init --root /tmp/node --user-data nodeconfig.yaml --metadata instance.json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&root, "root", "", "write the node's files under this directory and start nothing")
	cmd.Flags().StringVar(&userData, "user-data", "", "with --root: the user-data to read")
	cmd.Flags().StringVar(&metadata, "metadata", "", "with --root: facts about the instance in JSON or YAML (default: those of an example)")
	cmd.Flags().StringVar(&identityFlag, "identity", string(identity.Auto),
		"by what the node proves who it is: certificate, token, or auto: a token to Amazon EKS, which signs no certificates, else a certificate")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		kind, err := identity.ParseKind(identityFlag)
		if err != nil {
			return cli.Usage(fmt.Errorf("--identity: %w", err))
		}
		switch {
		case root == "" && (userData != "" || metadata != ""):
			return cli.Usage(errors.New("--user-data and --metadata go with --root: without it they come from instance metadata"))
		case root == "":
			return join(cmd, kind)
		case userData == "":
			return cli.Usage(errors.New("--root needs --user-data FILE"))
		}
		files, err := render(rootfs.Root(root), userData, metadata, kind, cmd.InOrStdin(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), files, func(w io.Writer) error {
			for _, path := range files {
				fmt.Fprintln(w, path)
			}
			return nil
		})
	}
	return cmd
}

func join(cmd *cobra.Command, kind identity.Kind) error {
	options, err := surroundings(kind)
	if err != nil {
		return err
	}
	return boot.Join(cmd.Context(), options)
}

// surroundings are those of a node on this machine.
func surroundings(kind identity.Kind) (boot.Options, error) {
	if os.Geteuid() != 0 {
		return boot.Options{}, errors.New("init changes this machine, so it must run as root (--root DIR only writes the files under DIR)")
	}
	logger, err := cli.Logger()
	if err != nil {
		return boot.Options{}, err
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return boot.Options{}, fmt.Errorf("read the kernel's boot ID: %w", err)
	}
	var machine syscall.Sysinfo_t
	if err := syscall.Sysinfo(&machine); err != nil {
		return boot.Options{}, fmt.Errorf("ask the kernel for the machine's memory: %w", err)
	}
	meter := &traffic.Meter{}
	return boot.Options{
		Root:      "/",
		Metadata:  imds.New("", meter.Metadata.Wrap),
		Traffic:   meter,
		Units:     &systemd.Bus{},
		Commands:  boot.SystemCommands(),
		Disks:     disk.System{},
		Clock:     boot.SystemClock{},
		Random:    rand.Float64, //nolint:gosec // jitter is no secret
		CPUs:      runtime.NumCPU(),
		MemoryMiB: int(machine.Totalram * uint64(machine.Unit) >> 20), //nolint:gosec // far below the limit
		Identity:  kind,
		BootID:    strings.TrimSpace(string(bootID)),
		Environ:   os.Environ(),
		Release:   cli.BuildVersion().Release,
		Log:       logger,
		Console:   openConsole(),
		Notify:    systemd.Notify,
		Journal: func(ctx context.Context, unit string) ([]string, error) {
			return systemd.Journal(ctx, unit, journalLines)
		},
		Examine: examine,
	}, nil
}

// journalLines are enough for the error of a program that ends at once.
const journalLines = 5

// examine returns what doctor finds first.
func examine(ctx context.Context) (found, whatToDo string) {
	machine, err := thisMachine()
	if err != nil {
		return err.Error(), ""
	}
	first, failed := doctor.FirstFailure(ctx, machine)
	if !failed {
		return "", ""
	}
	return first.Check + " " + string(first.Verdict) + ": " + first.Found, first.Advice
}

// console is the machine's console. Nobody may be reading it: a write that does not get
// through in a second is dropped.
type console struct{ *os.File }

func openConsole() io.Writer {
	file, err := os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return io.Discard
	}
	return console{file}
}

func (c console) Write(p []byte) (int, error) {
	// A console that has no deadlines does not block either: it was opened not to.
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	return c.File.Write(p)
}
