package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/doctor"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// doctorCommand examines the machine that machine returns.
func doctorCommand(machine func() (doctor.Machine, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what keeps this machine from being a Ready node",
		Long: `doctor checks, in the order in which a node depends on it: user-data, instance metadata,
name, connection and TLS of the API endpoint, the node's certificate, the clock, containerd,
kubelet, the pod network's configuration, disk and cgroups. Each check has five seconds. It
changes nothing. If a check fails, it exits with 1 and says what to do about the first one.`,
		Example: `  ovenbird-agent doctor
  ovenbird-agent doctor --output json`,
		Args: cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		machine, err := machine()
		if err != nil {
			return err
		}
		report := doctor.Examine(cmd.Context(), machine)
		if err := output.Print(cmd.OutOrStdout(), report, report.Print); err != nil {
			return err
		}
		if first, ok := report.FirstFailure(); ok {
			return fmt.Errorf("%s: %s\nWhat to do: %s", first.Check, first.Found, first.Advice)
		}
		return nil
	}
	return cmd
}

func thisMachine() (doctor.Machine, error) {
	if os.Geteuid() != 0 {
		return doctor.Machine{}, errors.New("doctor looks at files and sockets of the node's, so it must run as root")
	}
	return doctor.Machine{
		Root:     "/",
		Metadata: imds.New("", nil),
		Units:    &systemd.Bus{},
		Network: struct {
			*net.Resolver
			*net.Dialer
		}{net.DefaultResolver, &net.Dialer{}},
		Environ: os.Environ(),
		Now:     time.Now,
		Space:   space,
	}, nil
}

func space(path string) (doctor.Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return doctor.Space{}, err
	}
	block := uint64(s.Bsize) //nolint:gosec // never negative
	return doctor.Space{FreeBytes: s.Bavail * block, Bytes: s.Blocks * block, FreeInodes: s.Ffree, Inodes: s.Files}, nil
}
