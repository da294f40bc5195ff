package boot_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// hostData is user-data of an instance that hosts control planes, with a script.
const hostData = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: text/x-shellscript

#!/bin/sh
one
--B
Content-Type: application/node.eks.aws

apiVersion: ovenbird.dev/v1alpha1
kind: ControlPlaneHost
spec:
  volumeId: vol-0123456789abcdef0
  networkInterfaceId: eni-0123456789abcdef0
  publicHost: eks.example.internal
  policy: {statements: []}
---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  instance:
    environment:
      default: {AWS_ENDPOINT_URL: "https://aws.lab.internal"}
--B--
`

func (w *world) host(ctx context.Context) boot.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := w.join(ctx); err != nil {
		w.t.Fatalf("%v\n%s", err, w.journal.String())
	}
	status, err := boot.ReadStatus(w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	return status
}

func TestAnInstanceHostsControlPlanesInsteadOfJoining(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", hostData)
	status := w.host(t.Context())

	if want := []string{"reload", "restart ovenbird-host.service", "start ovenbird.service"}; !slices.Equal(w.units.calls, want) {
		t.Errorf("systemd was asked for %q, want %q", w.units.calls, want)
	}
	if len(w.units.watch) > 0 || w.tokens > 0 || len(w.server.Requests()) > 0 {
		t.Error("it did something that only nodes do")
	}
	if !slices.Equal(w.commands.ran, []string{"#!/bin/sh\none"}) {
		t.Errorf("the scripts that ran are %q", w.commands.ran)
	}
	if got := w.read(nodeconfig.HostPath); !strings.Contains(got, `"volumeId": "vol-0123456789abcdef0"`) {
		t.Errorf("%s is %s", nodeconfig.HostPath, got)
	}
	if got := w.read("/etc/systemd/system.conf.d/environment.conf"); !strings.Contains(got, "AWS_ENDPOINT_URL=https://aws.lab.internal") {
		t.Errorf("the services' environment is %s", got)
	}
	var phases []string
	for _, phase := range status.Phases {
		phases = append(phases, phase.Name+" "+string(phase.State))
	}
	if want := []string{"metadata done", "configuration done", "scripts done", "files done", "host done", "control-planes done"}; !slices.Equal(phases, want) {
		t.Errorf("the phases are %q", phases)
	}
	if !status.Hosts || status.Cluster != "" || !strings.HasPrefix(status.Headline(), nodeName+" hosts control planes, ") {
		t.Errorf("status is %+v: %s", status, status.Headline())
	}
	if last := w.notified[len(w.notified)-1]; !strings.HasPrefix(last, "READY=1\nSTATUS="+nodeName+" hosts control planes") {
		t.Errorf("systemd heard %q", last)
	}

	// A second run of the agent leaves what runs alone.
	w.units.calls = nil
	w.host(t.Context())
	if want := []string{"start ovenbird-host.service", "start ovenbird.service"}; !slices.Equal(w.units.calls, want) {
		t.Errorf("a second time, systemd was asked for %q, want %q", w.units.calls, want)
	}
}

func TestAHostThatDoesNotComeUpIsTriedAgainAndSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", hostData)
	w.units.fail["ovenbird-host.service"] = 2
	w.unitLog = []string{"waiting for vol-0123456789abcdef0: i-0fedcba9876543210 has it"}
	if failed := w.stuck("host"); !slices.Equal(failed.Log, w.unitLog) || !strings.Contains(failed.WhatToDo, "journalctl -u ovenbird-host") {
		t.Errorf("after a failure the phase is %+v", failed)
	}
	if got := phase(t, w.host(t.Context()), "host"); got.Attempts != 2 {
		t.Errorf("at the end it is %+v", got)
	}
}

func TestMistakesInAControlPlaneHostAreNamed(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", strings.Replace(hostData, "volumeId: vol-", "volumeId: disk-", 1))
	ctx, cancel := context.WithCancel(t.Context())
	w.onStatus = func(headline string) {
		if strings.Contains(headline, "configuration (try 1 failed") {
			cancel()
		}
	}
	if err := w.join(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	status, err := boot.ReadStatus(w.root)
	if err != nil {
		t.Fatal(err)
	}
	if got := phase(t, status, "configuration").LastError; !strings.Contains(got, "spec.volumeId: want the ID of an EBS volume") {
		t.Errorf("it says %q", got)
	}
}
