// Command ovenbird-lab is Amazon EC2 on one machine, as far as Kubernetes nodes need it:
// a private network with instances that are virtual machines, instance metadata, STS and
// EC2 on the wire. Everything lives in one network namespace and one state directory.
package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/lifecycle"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func main() { os.Exit(cli.Run(rootCommand())) }

// place is where a command's lab is.
type place struct {
	stateDir string
	name     string
	plan     vpc.Plan
}

func rootCommand() *cobra.Command {
	p := &place{plan: vpc.Default()}
	root := &cobra.Command{
		Use:   "ovenbird-lab",
		Short: "Amazon EC2 on one machine, for Kubernetes nodes",
		Long: `ovenbird-lab runs instances as virtual machines on a private network of this machine,
and answers instance metadata, STS and EC2 as AWS does. It lives in a network namespace
and a state directory of its own and leaves the host as it is.`,
		Example: `  ovenbird-lab up --image .ovenbird/image/disk.raw
  eval "$(ovenbird-lab env)"
  aws ec2 describe-subnets
  ovenbird-lab down`,
	}
	root.PersistentFlags().StringVar(&p.stateDir, "state-dir", ".ovenbird/lab", "directory that holds the lab")
	root.PersistentFlags().StringVar(&p.name, "name", "", "name of the lab and of its network namespace (default "+lifecycle.DefaultName+")")
	root.AddCommand(
		upCommand(p), downCommand(p), statusCommand(p), envCommand(p), execCommand(p),
		runInstancesCommand(p), stopInstancesCommand(p), startInstancesCommand(p), terminateInstancesCommand(p), announceCommand(p),
		expectSignalCommand(p), consoleCommand(p), statsCommand(p), faultCommand(p), loadImageCommand(p), daemonCommand(p),
	)
	return root
}

func (p *place) dir() (state.Dir, error) { return state.Open(p.stateDir) }

// load finds the lab, which must be there.
func (p *place) load() (state.Dir, state.Lab, error) {
	dir, err := p.dir()
	if err != nil {
		return "", state.Lab{}, err
	}
	lab, err := dir.Load()
	if err != nil {
		return "", state.Lab{}, err
	}
	if p.name != "" && p.name != lab.Name {
		return "", state.Lab{}, errors.New("the lab in " + string(dir) + " is named " + lab.Name + ", not " + p.name)
	}
	return dir, lab, nil
}

// running is load for commands that need the lab's services.
func (p *place) running() (state.Dir, state.Lab, error) {
	dir, lab, err := p.load()
	if err != nil {
		return "", state.Lab{}, err
	}
	if _, ok := dir.Daemon(); !ok {
		return "", state.Lab{}, errors.New("lab " + lab.Name + " is not running: start it again with `ovenbird-lab up`")
	}
	return dir, lab, nil
}
