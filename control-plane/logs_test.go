package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/cloudwatch"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

func TestLogsGoWhereTheFlagsSay(t *testing.T) {
	for name, test := range map[string]struct {
		flags logs
		want  logs
		err   string
	}{
		"nowhere":                  {},
		"named":                    {flags: logs{"/ovenbird/logs", "i-0a1"}, want: logs{"/ovenbird/logs", "i-0a1"}},
		"a source alone":           {flags: logs{"", "i-0a1"}, err: "--log-group"},
		"a group of stars":         {flags: logs{"a*", "i-0a1"}, err: `--log-group "a*"`},
		"a source with a slash":    {flags: logs{"g", "a/b"}, err: `--log-source "a/b"`},
		"a group that is too long": {flags: logs{strings.Repeat("g", 513), "s"}, err: "--log-group"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.flags.checked()
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if got, err := (logs{group: "g"}).checked(); err != nil || got.source == "" {
		t.Errorf("without a source: %+v, %v", got, err)
	}
}

func TestLogsHaveTheNamesOfEKS(t *testing.T) {
	c := registry.Cluster{Name: "demo", ARN: "arn:aws:eks:us-west-2:111122223333:cluster/demo", CreatedAt: time.Unix(1, 0), EnabledLogs: []string{
		registry.LogAPI, registry.LogAudit, registry.LogAuthenticator, registry.LogControllerManager, registry.LogScheduler,
	}}
	again := c
	again.CreatedAt = time.Unix(2, 0)
	quiet := registry.Cluster{Name: "quiet"}
	all := clusterLogs("/state", []registry.Cluster{c, quiet, again})
	if len(all) != 8 {
		t.Fatalf("got %+v", all)
	}
	for i, want := range []string{"kube-apiserver", "kube-apiserver-audit", "kube-controller-manager", "kube-scheduler"} {
		first, second := all[i], all[i+4]
		kind, hex := first.Stream[:strings.LastIndex(first.Stream, "-")], first.Stream[strings.LastIndex(first.Stream, "-")+1:]
		if first.Group != "/aws/eks/demo/cluster" || !first.MakeGroup || kind != want || len(hex) != 32 || second.Stream == first.Stream {
			t.Errorf("got %+v and %+v", first, second)
		}
		if path := first.Source.(cloudwatch.File).Path; path != "/state/clusters/demo/run/"+want+".log" {
			t.Errorf("%s is read from %s", want, path)
		}
	}
}

func TestTheJournalIsSentOnlyUnderSystemd(t *testing.T) {
	names := func(all []cloudwatch.Log) (streams []string) {
		for _, l := range all {
			if l.Group != "g" || l.MakeGroup {
				t.Errorf("got %+v", l)
			}
			streams = append(streams, l.Stream)
		}
		return streams
	}
	alone := []string{"audit", "audit-refused"}
	if got := names(logs{"g", "i-0a1"}.own("/state", false)); !slices.Equal(got, alone) {
		t.Errorf("got %q", got)
	}
	if got := names(logs{"g", "i-0a1"}.own("/state", true)); !slices.Equal(got, append(alone, "i-0a1/ovenbird", "i-0a1/ovenbird-host", "i-0a1/ovenbird-agent")) {
		t.Errorf("got %q", got)
	}
}
