package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// labStatus is what `status` and `up` print.
type labStatus struct {
	Name        string            `json:"name"`
	StateDir    string            `json:"stateDir"`
	Running     bool              `json:"running"`
	DaemonPID   int               `json:"daemonPid,omitempty"`
	Endpoint    string            `json:"endpoint"`
	Proxy       string            `json:"proxy"`
	Accelerator state.Accelerator `json:"accelerator"`
	AMI         string            `json:"ami,omitempty"`
	Instances   []instanceStatus  `json:"instances"`
}

type instanceStatus struct {
	ID         string    `json:"instanceId"`
	State      string    `json:"state"`
	Reason     string    `json:"stateReason,omitempty"`
	Type       string    `json:"instanceType"`
	Zone       string    `json:"availabilityZone"`
	Address    string    `json:"privateIpAddress"`
	DNSName    string    `json:"privateDnsName"`
	LaunchTime time.Time `json:"launchTime"`
}

func statusCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the lab and its instances",
		Example: `  ovenbird-lab status
  ovenbird-lab status --output json`,
		Args: cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		now, err := p.status()
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), now, now.print)
	}
	return cmd
}

// status looks at what is on disk and at the daemon's lock; it asks nobody, so that it
// works when nothing else does.
func (p *place) status() (labStatus, error) {
	dir, lab, err := p.load()
	if err != nil {
		return labStatus{}, err
	}
	s := labStatus{
		Name: lab.Name, StateDir: string(dir), Endpoint: "https://" + vpc.EndpointName,
		Proxy: fmt.Sprintf("http://127.0.0.1:%d", lab.ProxyPort), Accelerator: lab.Accelerator, Instances: []instanceStatus{},
	}
	s.DaemonPID, s.Running = dir.Daemon()
	if image, ok := lab.Newest(); ok {
		s.AMI = image.ID
	}
	list, err := fleet.Read(dir)
	if err != nil {
		return labStatus{}, err
	}
	for _, i := range list {
		v := instanceStatus{ID: i.ID, State: string(i.State), Reason: i.Reason.Message, Type: i.Type, Zone: i.Zone, LaunchTime: i.LaunchTime}
		if i.HasAddress() {
			v.Address, v.DNSName = i.Address.String(), p.plan.PrivateDNSName(i.Address)
		}
		s.Instances = append(s.Instances, v)
	}
	return s, nil
}

func (s labStatus) print(w io.Writer) error {
	state := fmt.Sprintf("running (process %d)", s.DaemonPID)
	if !s.Running {
		state = "not running; start it again with `ovenbird-lab up`"
	}
	image := s.AMI
	if image == "" {
		image = "none; register one with `ovenbird-lab up --image DISK`"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"lab", s.Name}, {"state", state}, {"directory", s.StateDir}, {"endpoint", s.Endpoint}, {"proxy", s.Proxy},
		{"accelerator", s.Accelerator.Name + ": " + s.Accelerator.Reason}, {"image", image},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Instances) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tSTATE\tTYPE\tZONE\tADDRESS\tAGE\tREASON")
	for _, i := range s.Instances {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.State, i.Type, i.Zone, i.Address,
			time.Since(i.LaunchTime).Round(time.Second), i.Reason)
	}
	return t.Flush()
}
