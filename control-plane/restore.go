package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/backup"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// restoreFlags are the flags of `ovenbird restore` besides where archives are.
type restoreFlags struct {
	backupFlags
	stateDir string
	clusters []string
	at       string
	replace  bool
}

func newRestoreCommand() *cobra.Command {
	var flags restoreFlags
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Bring clusters back from their backups",
		Long: `Bring clusters back from their backups, into the service that runs on this machine.

A cluster comes back with its authority, its keys, its access entries and, where they are
free, the address and port of its API server: kubeconfigs and nodes go on as before. On
another machine the API server listens at that machine's address.`,
		Example: "  ovenbird restore --from s3://bucket/clusters --backup-key-file backup.key --cluster demo",
		Args:    cobra.NoArgs,
	}
	set := cmd.Flags()
	flags.add(set, "from", "where backups are")
	set.StringSliceVar(&flags.clusters, "cluster", nil, "cluster to bring back; may be given again (default: all there are backups of)")
	set.StringVar(&flags.at, "at", "", "bring back the cluster as of this time, such as 2026-11-27T12:00:00Z (default: as late as possible)")
	set.BoolVar(&flags.replace, "replace", false, "remove the cluster that there is, and its data")
	set.StringVar(&flags.stateDir, "state-dir", defaultStateDir, "state directory of the service")
	if err := cmd.MarkFlagRequired("from"); err != nil {
		panic(err)
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		restored, err := flags.restore(cmd.Context())
		return errors.Join(err, output.Print(cmd.OutOrStdout(), restored, func(w io.Writer) error {
			for _, r := range restored {
				if _, err := fmt.Fprintf(w, "%s: restored as of %s; its API server starts on port %d\n", r.Cluster, r.TakenAt.Format(time.RFC3339), r.Port); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return cmd
}

func (f *restoreFlags) restore(ctx context.Context) ([]backup.Restored, error) {
	var at time.Time
	if f.at != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, cli.Usage(fmt.Errorf("--at %q: want a time such as 2026-11-27T12:00:00Z", f.at))
		}
	}
	place, key, err := f.open(ctx, "")
	if err != nil {
		return nil, err
	}
	archives, err := backup.Archives(ctx, place)
	if err != nil {
		return nil, err
	}
	chosen, skipped, err := backup.Choose(archives, f.clusters, at)
	if err != nil {
		return nil, err
	}
	clusters, dir, err := reachRegistry(ctx, f.stateDir)
	if err != nil {
		return nil, err
	}
	defer clusters.close()
	for _, name := range skipped {
		clusters.log.Warn("cluster is not brought back, it has no backup of before that time", zap.String("cluster", name), zap.Time("at", at))
	}
	target := backup.Target{StateDir: dir, Registry: clusters.Registry, Replace: f.replace, Log: clusters.log}
	restored, failed := []backup.Restored{}, []error(nil)
	for _, archive := range chosen {
		one, err := backup.Restore(ctx, target, place, archive, key)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		restored = append(restored, one)
	}
	return restored, errors.Join(failed...)
}
