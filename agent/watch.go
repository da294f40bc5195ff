package main

import (
	"math/rand/v2"
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

func watchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Cordon and drain the node before its instance goes",
		Long: `watch looks in instance metadata for Spot interruptions, rebalance recommendations, scheduled
maintenance and Auto Scaling's plans, and cordons and drains the Node accordingly. systemd
runs it as ovenbird-watch.service once the Node is Ready.`,
		Example: `  ovenbird-agent watch`,
		Args:    cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		logger, err := cli.Logger()
		if err != nil {
			return err
		}
		const root = rootfs.Root("/")
		config, err := lifecycle.ReadConfig(root)
		if err != nil {
			return err
		}
		clock, metadata := boot.SystemClock{}, imds.New("", nil)
		credentials := metadata.Credentials()
		proxy := boot.ProxyOf(os.Environ(), nil)
		connector := &lifecycle.Connector{
			Root: root, Config: config, Proxy: proxy, UserAgent: "ovenbird-agent/" + cli.BuildVersion().Release, Now: clock.Now,
			Tokens: &identity.Tokens{
				Signer:  ststoken.Signer{Credentials: credentials, Region: config.Region, Endpoint: config.STSEndpoint, Now: clock.Now},
				Cluster: config.Cluster.Name,
				Now:     clock.Now,
			},
		}
		watcher := &lifecycle.Watcher{
			Root: root, Config: config, Metadata: metadata, Connect: connector.Connect,
			AutoScaling: awscall.Service{
				Name: "autoscaling", Region: config.Region, Endpoint: config.AutoScalingEndpoint,
				// The authorities of user-data are among the system's by now.
				Credentials: credentials, Client: awscall.NewClient(nil, proxy, nil), Now: clock.Now,
			},
			Clock: clock, Random: rand.Float64, Log: logger, //nolint:gosec // jitter is no secret
		}
		return watcher.Run(cmd.Context())
	}
	return cmd
}
