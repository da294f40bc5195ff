package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/lifecycle"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

func upCommand(p *place) *cobra.Command {
	var image, accelerator string
	var rate int
	var fake bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the lab, or what of it is not running",
		Long: `Start the lab: its network, AWS endpoints and services. Running it again changes nothing
that is in order; after a crash or a restart of this machine it does what is missing.
Instances that still run are kept.`,
		Example: `  ovenbird-lab up --image .ovenbird/image/disk.raw
  ovenbird-lab up --fake-instances --state-dir /var/tmp/policies
  ovenbird-lab up --name second --state-dir /var/tmp/second --output json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&image, "image", "", "raw disk to register as the lab's AMI")
	cmd.Flags().StringVar(&accelerator, "accelerator", "", "how instances run: auto, kvm or tcg (default: found out once)")
	cmd.Flags().IntVar(&rate, "snapshot-rate", 0, "MiB/s at which new volumes fetch what is first touched, as EBS does; 0: all is there (default: as before, 0 at first)")
	cmd.Flags().BoolVar(&fake, "fake-instances", false, "make a lab whose instances are played in memory: they boot and signal in milliseconds, and nothing runs in them")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if fake && accelerator != "" {
			return cli.Usage(errors.New("--fake-instances take no --accelerator"))
		}
		switch accelerator {
		case "", lifecycle.Auto, vm.KVM, vm.TCG:
		default:
			return cli.Usage(fmt.Errorf("--accelerator %q: want auto, kvm or tcg", accelerator))
		}
		if rate < 0 || rate > 1000 {
			return cli.Usage(fmt.Errorf("--snapshot-rate %d: want 0 to 1000 MiB/s", rate))
		}
		dir, err := p.dir()
		if err != nil {
			return err
		}
		request := lifecycle.Request{Dir: dir, Name: p.name, Image: image, Accelerator: accelerator, FakeInstances: fake, Plan: p.plan, Steps: progress.New(os.Stderr)}
		if cmd.Flags().Changed("snapshot-rate") {
			request.SnapshotRate = &rate
		}
		_, changed, err := lifecycle.Up(cmd.Context(), request)
		if err != nil {
			return fmt.Errorf("up: %w", err)
		}
		now, err := p.status()
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), now, func(w io.Writer) error {
			if !changed {
				fmt.Fprintf(w, "Lab %s is up already.\n", now.Name)
				return nil
			}
			if err := now.print(w); err != nil {
				return err
			}
			fmt.Fprintf(w, "\nTry:  eval \"$(%s env --state-dir %s)\"; aws sts get-caller-identity\n", os.Args[0], p.stateDir)
			return nil
		})
	}
	return cmd
}

func downCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End everything inside the lab and remove it",
		Long: `End every process inside the lab, instances and whatever else was started there, and
remove its network, its files and its state directory. Nothing is left. Where there is
no lab, there is nothing to do.`,
		Example: `  ovenbird-lab down`,
		Args:    cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := p.dir()
		if err != nil {
			return err
		}
		removed, err := lifecycle.Down(cmd.Context(), lifecycle.Removal{Dir: dir, Name: p.name, Plan: p.plan, Steps: progress.New(os.Stderr)})
		if err != nil {
			return fmt.Errorf("down: %w", err)
		}
		if !removed {
			fmt.Fprintln(cmd.ErrOrStderr(), "There is no lab in "+string(dir)+".")
		}
		return nil
	}
	return cmd
}
