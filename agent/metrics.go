package main

import (
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func metricsCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Print the metrics of the node's start for Prometheus",
		Long: `metrics prints what status knows in Prometheus' text format. The same is in
` + boot.MetricsPath + `, for node-exporter's textfile collector.`,
		Example: `  ovenbird-agent metrics
  ovenbird-agent metrics | promtool check metrics`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&root, "root", "/", "the node's root directory")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := boot.ReadStatus(rootfs.Root(root))
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(status.Metrics())
		return err
	}
	return cmd
}
