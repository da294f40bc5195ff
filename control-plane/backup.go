package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/backup"
	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

const (
	// awsTimeout bounds the search for an AWS configuration.
	awsTimeout = 30 * time.Second
	// registryTimeout bounds how long commands wait for the registry to answer.
	registryTimeout = 10 * time.Second
	defaultKeep     = 14
)

// backupFlags say where archives are.
type backupFlags struct {
	where, keyFile string
	keep           int
}

func (f *backupFlags) add(flags *pflag.FlagSet, whereFlag, whereHelp string) {
	flags.StringVar(&f.where, whereFlag, "", whereHelp+": a directory, or s3://bucket/prefix")
	flags.StringVar(&f.keyFile, "backup-key-file", "", "age identity that backups are encrypted with; `ovenbird backup-key` makes one")
}

func (f *backupFlags) addKeep(flags *pflag.FlagSet) {
	flags.IntVar(&f.keep, "backup-keep", defaultKeep, "how many backups of a cluster stay; 0: all of them")
}

// open returns the place and the key, nil for none. The bucket is in region if the AWS configuration
// names none.
func (f *backupFlags) open(ctx context.Context, region string) (place backup.Place, key *backup.Key, err error) {
	if f.keyFile != "" {
		if key, err = backup.ReadKey(f.keyFile); err != nil {
			return nil, nil, fmt.Errorf("--backup-key-file: %w", err)
		}
	}
	place, err = backup.OpenPlace(f.where, key, func() (aws.Config, error) {
		ctx, cancel := context.WithTimeout(ctx, awsTimeout)
		defer cancel()
		return config.LoadDefaultConfig(ctx, config.WithDefaultRegion(region))
	})
	return place, key, err
}

func newBackupCommand() *cobra.Command {
	var flags backupFlags
	var stateDir string
	cmd := &cobra.Command{
		Use:   "backup [CLUSTER...]",
		Short: "Back clusters up, all of them or those named",
		Long: `Back clusters up, all of them or those named, beside a service that runs or not.

A backup holds a snapshot of the cluster's etcd, its registry documents and its keys: whoever
has it has the cluster. With a key it is encrypted; without one it goes only to a directory
that nobody else may enter. ` + "`ovenbird serve --backup-interval`" + ` takes backups by itself.`,
		Example: "  ovenbird backup-key backup.key\n  ovenbird backup demo --backup-to s3://bucket/clusters --backup-key-file backup.key",
	}
	set := cmd.Flags()
	flags.add(set, "backup-to", "where backups go")
	flags.addKeep(set)
	set.StringVar(&stateDir, "state-dir", defaultStateDir, "state directory of the service")
	if err := cmd.MarkFlagRequired("backup-to"); err != nil {
		panic(err)
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		taken, err := takeBackups(cmd.Context(), flags, stateDir, names)
		// What was taken is told even when something else failed.
		return errors.Join(err, output.Print(cmd.OutOrStdout(), taken, func(w io.Writer) error {
			for _, t := range taken {
				if _, err := fmt.Fprintf(w, "%s: %d keys, %d bytes in %s\n", t.Cluster, t.Keys, t.Bytes, t.Archive); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return cmd
}

func takeBackups(ctx context.Context, flags backupFlags, stateDir string, names []string) ([]backup.Taken, error) {
	place, key, err := flags.open(ctx, "")
	if err != nil {
		return nil, err
	}
	clusters, dir, err := reachRegistry(ctx, stateDir)
	if err != nil {
		return nil, err
	}
	defer clusters.close()
	if len(names) == 0 {
		all, err := clusters.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			names = append(names, c.Name)
		}
	}
	options := backup.Options{
		StateDir: dir, Registry: clusters.Registry, Place: place, Key: key, Keep: flags.keep, Verify: verifyElsewhere, Log: clusters.log, Now: time.Now,
	}
	return takeEach(names, func(name string) (backup.Taken, error) { return backup.Take(ctx, options, name) })
}

// takeEach goes on after a failure, and returns what was taken with it too.
func takeEach(names []string, take func(name string) (backup.Taken, error)) ([]backup.Taken, error) {
	taken, failed := []backup.Taken{}, []error(nil)
	for _, name := range names {
		one, err := take(name)
		if err != nil {
			failed = append(failed, err)
		}
		if one.Archive != "" {
			taken = append(taken, one)
		}
	}
	return taken, errors.Join(failed...)
}

// openedRegistry is the registry of a service, used beside it.
type openedRegistry struct {
	*registry.Registry
	log   *zap.Logger
	close func()
}

// reachRegistry connects to the registry of the service in stateDir, whose true name it returns.
func reachRegistry(ctx context.Context, stateDir string) (*openedRegistry, string, error) {
	log, err := cli.Logger()
	if err != nil {
		return nil, "", err
	}
	dir, err := trueName(stateDir)
	if err != nil {
		return nil, "", err
	}
	port, err := cluster.KeptPort(filepath.Join(dir, "registry"), "etcd")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("there is no registry in %s: start `ovenbird serve` with this --state-dir first", dir)
	}
	if err != nil {
		return nil, "", err
	}
	etcd, err := cluster.DialEtcd(registryKeys(dir), port, log)
	if err != nil {
		return nil, "", err
	}
	opened := &openedRegistry{registry.New(etcd), log, func() { _ = etcd.Close() }}
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	if _, err := opened.List(ctx); err != nil {
		opened.close()
		return nil, "", fmt.Errorf("the registry in %s does not answer, does `ovenbird serve` run with this --state-dir? %w", dir, err)
	}
	return opened, dir, nil
}

// verifyElsewhere verifies a snapshot in a process of its own.
func verifyElsewhere(ctx context.Context, path, trial string) (backup.Snapshot, error) {
	var said bytes.Buffer
	// This program even when its file has been replaced by a newer one.
	cmd := exec.CommandContext(ctx, "/proc/self/exe", verifyCommand, path, trial)
	cmd.Stderr = &said
	output, err := cmd.Output()
	if err != nil {
		first, _, _ := strings.Cut(said.String(), "\n")
		return backup.Snapshot{}, fmt.Errorf("verify the snapshot: %w: %s", err, first)
	}
	var verified backup.Snapshot
	if err := json.Unmarshal(output, &verified); err != nil {
		return backup.Snapshot{}, fmt.Errorf("verify the snapshot: %w", err)
	}
	return verified, nil
}

const verifyCommand = "verify-snapshot"

func newVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     verifyCommand + " FILE SCRATCH",
		Short:   "Verify a snapshot of etcd, for a backup",
		Long:    "Verify a snapshot of etcd, restoring it into a directory that is removed after. Backups do it by this command.",
		Example: "  ovenbird verify-snapshot etcd.db /tmp/scratch",
		Args:    cobra.ExactArgs(2),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			verified, err := backup.VerifySnapshot(args[0], args[1])
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(verified)
		},
	}
}

func newBackupKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup-key FILE",
		Short: "Make the key that backups are encrypted with",
		Long: `Make the key that backups are encrypted with, an age identity, and print its public half.
Keep a copy away from this machine: without it no backup can be read.`,
		Example: "  ovenbird backup-key backup.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, err := backup.MakeKey(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), public)
			return err
		},
	}
}
