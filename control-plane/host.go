package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
	"github.com/ovenbird-dev/ovenbird/control-plane/backup"
	"github.com/ovenbird-dev/ovenbird/control-plane/host"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func newHostCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Make this EC2 instance ready for the service: its data volume, its address, its arguments",
		Long: `Make this EC2 instance ready for ` + "`ovenbird serve`" + `: attach the data volume and the network
interface that its user-data names, as soon as no other instance has them, mount the volume at
` + host.MountPoint + `, answer at the interface's address, and write the arguments of the service.

ovenbird-host.service runs it at boot, before ovenbird.service. It can be interrupted anywhere
and run again. A volume that holds anything is never formatted, and nothing is taken away from an
instance that still has it.`,
		Example: "  ovenbird host\n  ovenbird host --config host.json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&path, "config", nodeconfig.HostPath, "file with the ControlPlaneHost, as the agent leaves it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		spec, err := readHost(path)
		if err != nil {
			return err
		}
		log, err := cli.Logger()
		if err != nil {
			return err
		}
		h, err := hostHere(cmd.Context(), spec, log)
		if err != nil {
			return err
		}
		return h.Prepare(cmd.Context())
	}
	return cmd
}

func readHost(path string) (nodeconfig.HostSpec, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nodeconfig.HostSpec{}, fmt.Errorf("%w: the agent writes it on an instance whose user-data holds a %s", err, nodeconfig.HostKind)
	}
	if err != nil {
		return nodeconfig.HostSpec{}, err
	}
	userData, err := nodeconfig.Parse(data)
	if err != nil {
		return nodeconfig.HostSpec{}, fmt.Errorf("%s: %w", path, err)
	}
	if userData.Host == nil {
		return nodeconfig.HostSpec{}, fmt.Errorf("%s holds no %s", path, nodeconfig.HostKind)
	}
	return userData.Host.Spec, nil
}

// hostHere is this instance as a host.
func hostHere(ctx context.Context, spec nodeconfig.HostSpec, log *zap.Logger) (*host.Host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("host attaches, formats and mounts a volume, so it must run as root")
	}
	ctx, cancel := context.WithTimeout(ctx, awsTimeout)
	defer cancel()
	instance, err := imds.New("", nil).Instance(ctx)
	if err != nil {
		return nil, err
	}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(instance.Region))
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	cloud := ec2.NewFromConfig(loaded)
	return &host.Host{
		Spec: spec, Instance: instance,
		Clouds: host.Clouds{Volumes: cloud, Interfaces: cloud, Parameters: ssm.NewFromConfig(loaded)},
		Root:   "/", Disks: disk.System{}, Network: machineNetwork{},
		MakeKey: func(path string) error { _, err := backup.MakeKey(path); return err },
		Sleep:   sleep, Random: rand.Float64,
		Tell: func(status string) { _, _ = daemon.SdNotify(false, "STATUS="+status) },
		Log:  log,
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// machineNetwork is this machine's network.
type machineNetwork struct{}

func (machineNetwork) Reload(ctx context.Context) error { return new(systemd.Bus).ReloadNetwork(ctx) }

func (machineNetwork) Addresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, address := range found {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			addresses = append(addresses, prefix.Addr())
		}
	}
	return addresses, nil
}
