package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ovenbird-dev/ovenbird/lab/control"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// instance is what the lab has recorded of an instance.
func (l testLab) instance(t *testing.T, id string) fleet.Instance {
	t.Helper()
	i, err := find(state.Dir(l.dir), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func testStopAndStart(t *testing.T, l testLab) {
	id := launchOne(t, l, "--spot", "stop")
	before, machine := l.instance(t, id), l.machine(t, id)
	volume := filepath.Join(l.dir, "instances", id, "disk.qcow2")
	disk, err := os.Stat(volume)
	if err != nil {
		t.Fatal(err)
	}
	if out := l.run(t, "stop-instances", "--skip-os-shutdown", "--wait", id); !strings.Contains(out, "running -> stopped") {
		t.Errorf("it says %q", out)
	}
	// A lab whose daemon is started anew keeps it.
	if err := syscall.Kill(l.status(t).DaemonPID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); l.status(t).Running; {
		if time.Now().After(deadline) {
			t.Fatal("the daemon is still there")
		}
	}
	l.run(t, "up")
	if now := l.instance(t, id); now.State != fleet.Stopped || now.Address != before.Address {
		t.Errorf("it is %+v", now)
	}
	if out := l.run(t, "start-instances", "--wait", id); !strings.Contains(out, "stopped -> running") {
		t.Errorf("it says %q", out)
	}
	now, err := os.Stat(volume)
	if err != nil || !os.SameFile(disk, now) {
		t.Errorf("it has another volume: %v", err)
	}
	if after := l.instance(t, id); after.Address != before.Address || l.machine(t, id) == machine {
		t.Errorf("it is %+v, and its machine %d", after, l.machine(t, id))
	}
	if _, err := ec2.NewFromConfig(l.sdk(t)).TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}, SkipOsShutdown: aws.Bool(true)}); err != nil {
		t.Error(err)
	}
}

func testAnnounce(t *testing.T, l testLab, id string) {
	if _, complaints, status := l.try(t, "announce", "spot-interruption", id); status != 1 || !strings.Contains(complaints, "on demand") {
		t.Errorf("exit status %d: %s", status, complaints)
	}
	if _, complaints, status := l.try(t, "announce", "flood", id); status != 2 || !strings.Contains(complaints, `"flood"`) {
		t.Errorf("exit status %d: %s", status, complaints)
	}
	l.run(t, "announce", "system-reboot", id, "--in", "10m")
	l.run(t, "announce", "lifecycle-state", id, "--state", "Warmed:Stopped")
	n := l.instance(t, id).Notices
	if left := time.Until(n.Maintenance[0].NotBefore); n.TargetState != "Warmed:Stopped" || left < 8*time.Minute || left > 10*time.Minute {
		t.Errorf("announced: %+v", n)
	}
	l.run(t, "announce", "system-reboot", id, "--cancel")
	l.run(t, "announce", "lifecycle-state", id, "--cancel")
	if n := l.instance(t, id).Notices; n.TargetState != "" || !n.Maintenance[0].Canceled {
		t.Errorf("withdrawn: %+v", n)
	}
}

func testSignals(t *testing.T, l testLab) {
	config := l.sdk(t)
	if out, err := autoscaling.NewFromConfig(config).DescribeAutoScalingGroups(t.Context(), nil); err != nil || len(out.AutoScalingGroups) != 0 {
		t.Errorf("groups: %v, %v", out, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waiting := l.command(ctx, "expect-signal", "workers", "Nodes", "--count", "1", "--timeout", "1m", "--output", "json")
	var out strings.Builder
	waiting.Stdout = &out
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	lab := control.Client(state.Dir(l.dir).Control())
	for {
		if _, err := lab.Signals(ctx, "workers", "Nodes"); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the resource does not become known")
		}
	}
	if _, err := cloudformation.NewFromConfig(config).SignalResource(ctx, &cloudformation.SignalResourceInput{
		StackName: aws.String("workers"), LogicalResourceId: aws.String("Nodes"), UniqueId: aws.String("i-1"), Status: types.ResourceSignalStatusSuccess,
	}); err != nil {
		t.Error(err)
	}
	if err := waiting.Wait(); err != nil {
		t.Fatal(err)
	}
	var list []map[string]string
	if err := json.Unmarshal([]byte(out.String()), &list); err != nil || len(list) != 1 || list[0]["uniqueId"] != "i-1" || list[0]["status"] != "SUCCESS" {
		t.Errorf("%s: %v", out.String(), err)
	}
}
