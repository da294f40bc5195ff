package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/ovenbird-dev/ovenbird/control-plane/cloudwatch"
	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// logs are where they go in CloudWatch; without a group, nowhere.
type logs struct{ group, source string }

func (l *logs) add(flags *pflag.FlagSet) {
	flags.StringVar(&l.group, "log-group", "", "CloudWatch log group for the service's own journal and audit record; with it, logs that clusters enable go to /aws/eks/NAME/cluster (default: nothing goes to CloudWatch)")
	flags.StringVar(&l.source, "log-source", "", "how streams of this machine's journal begin (default: the host name)")
}

// Patterns of CloudWatch's (API reference), without what would be a separator here.
var (
	logGroupPattern  = regexp.MustCompile(`^[A-Za-z0-9._/#-]{1,512}$`)
	logSourcePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)
)

// checked returns l with its defaults, if nothing is wrong with it.
func (l logs) checked() (logs, error) {
	if l.group == "" {
		if l.source != "" {
			return logs{}, cli.Usage(fmt.Errorf("--log-source is for --log-group: give that too"))
		}
		return logs{}, nil
	}
	if !logGroupPattern.MatchString(l.group) {
		return logs{}, cli.Usage(fmt.Errorf("--log-group %q: want the name of a log group", l.group))
	}
	if l.source == "" {
		var err error
		if l.source, err = os.Hostname(); err != nil {
			return logs{}, fmt.Errorf("--log-source: %w", err)
		}
	}
	if !logSourcePattern.MatchString(l.source) {
		return logs{}, cli.Usage(fmt.Errorf("--log-source %q: want letters, digits, dots and dashes", l.source))
	}
	return l, nil
}

// units are those whose journal is the service's own.
var units = []string{"ovenbird", "ovenbird-host", "ovenbird-agent"}

// own are the logs of the service itself. The record of calls goes on wherever the state directory
// goes; the journal is a machine's, and there only under systemd.
func (l logs) own(stateDir string, underSystemd bool) []cloudwatch.Log {
	var all []cloudwatch.Log
	for _, name := range []string{auditFile, auditRefusedFile} {
		stream := strings.TrimSuffix(name, filepath.Ext(name))
		all = append(all, cloudwatch.Log{Group: l.group, Stream: stream, Source: cloudwatch.File{Path: filepath.Join(stateDir, name)}})
	}
	if underSystemd {
		for _, unit := range units {
			all = append(all, cloudwatch.Log{Group: l.group, Stream: l.source + "/" + unit, Source: cloudwatch.Journal{Unit: unit, Program: "journalctl"}})
		}
	}
	return all
}

// clusterLogs are the logs that clusters have enabled, in the groups and streams of EKS. The streams
// of a cluster that is made again under the same name are others.
func clusterLogs(stateDir string, clusters []registry.Cluster) []cloudwatch.Log {
	var all []cloudwatch.Log
	for _, c := range clusters {
		sum := sha256.Sum256([]byte(c.ARN + c.CreatedAt.UTC().Format(time.RFC3339Nano)))
		for _, kind := range c.EnabledLogs {
			if path := cluster.LogFile(stateDir, c.Name, kind); path != "" {
				stream := strings.TrimSuffix(filepath.Base(path), ".log") // as EKS has it
				all = append(all, cloudwatch.Log{
					Group: "/aws/eks/" + c.Name + "/cluster", Stream: stream + "-" + hex.EncodeToString(sum[:16]), MakeGroup: true,
					Source: cloudwatch.File{Path: path},
				})
			}
		}
	}
	return all
}

// shipLogs sends logs to CloudWatch until ctx ends.
func (o *service) shipLogs(ctx context.Context, clusters *registry.Registry) {
	own := o.logs.own(o.stateDir, os.Getenv("JOURNAL_STREAM") != "") // systemd.exec(5)
	cloudwatch.Run(ctx, cloudwatch.Options{
		Client: o.clouds.logs, Path: filepath.Join(o.stateDir, "cloudwatch.json"), Log: o.log.Named("cloudwatch"),
		Logs: func(ctx context.Context) ([]cloudwatch.Log, error) {
			all, err := clusters.List(ctx)
			return append(clusterLogs(o.stateDir, all), own...), err
		},
	})
}
