package boot_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/awscall/awsquerytest"
	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	targetPath = "meta-data/autoscaling/target-lifecycle-state"

	signalled = "Action=SignalResource LogicalResourceId=Workers StackName=stack Status=%s UniqueId=i-0123456789abcdef0 Version=2010-05-15"
	completed = "Action=CompleteLifecycleAction AutoScalingGroupName=workers InstanceId=i-0123456789abcdef0 LifecycleActionResult=%s LifecycleHookName=launch Version=2011-01-01"

	signalVariables = "OVENBIRD_SIGNAL_RESOURCE: Workers, OVENBIRD_LAUNCH_HOOK: launch"
)

var (
	success = []string{fmt.Sprintf(signalled, "SUCCESS"), fmt.Sprintf(completed, "CONTINUE")}
	failure = []string{fmt.Sprintf(signalled, "FAILURE"), fmt.Sprintf(completed, "ABANDON")}
)

// listened is user-data with variables, whose AWS is service; the instance shows its tags.
func (w *world) listened(service *awsquerytest.Server, variables string) string {
	w.metadata.Set("meta-data/tags/instance/aws:cloudformation:stack-name", "stack")
	w.metadata.Set("meta-data/tags/instance/aws:autoscaling:groupName", "workers")
	var trusted bytes.Buffer
	if err := pem.Encode(&trusted, &pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate.Raw}); err != nil {
		w.t.Fatal(err)
	}
	config := strings.Replace(w.userData(""), `"https://aws.lab.internal/"`,
		fmt.Sprintf(`"https://%s/", AWS_ENDPOINT_URL: %q, %s`, stsHost, service.URL, variables), 1)
	return fmt.Sprintf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"x\"\n\n--x\nContent-Type: application/node.eks.aws\n\n%s\n--x\nContent-Type: application/x-pem-file\n\n%s\n--x--\n",
		config, trusted.String())
}

func TestNobodyIsToldUnlessSomebodyWaits(t *testing.T) {
	w := newWorld(t)
	service := awsquerytest.Start(t)
	w.metadata.Set("user-data", w.listened(service, ""))
	w.metadata.Set(targetPath, "InService")
	if status := w.mustJoin(); status.Traffic.AWS.Calls != 0 {
		t.Errorf("%d AWS calls", status.Traffic.AWS.Calls)
	}
	if calls := service.Calls(); len(calls) > 0 {
		t.Errorf("AWS heard %q", calls)
	}
	if !slices.Equal(w.units.watch, []string{"restart"}) {
		t.Errorf("the watch was asked to %q", w.units.watch)
	}
	config, err := lifecycle.ReadConfig(w.root)
	if err != nil || config.Node != nodeName || config.Cluster.Endpoint != w.server.URL || config.Identity != "certificate" {
		t.Errorf("the watch gets %+v, %v", config, err)
	}
}

func TestThoseWhoWaitAreToldOnceThatTheNodeIsReady(t *testing.T) {
	w := newWorld(t)
	service := awsquerytest.Start(t)
	w.metadata.Set("user-data", w.listened(service, signalVariables))
	service.Fail(awsquerytest.Failure{Status: 400, Code: "Throttling", Message: "Rate exceeded"})
	w.mustJoin()
	if got, want := service.Calls(), slices.Concat(success, success[:1]); !slices.Equal(got, want) {
		t.Errorf("AWS heard %q, want %q", got, want)
	}
	// Whoever joins again, by a restart of the agent or of the machine, has told it.
	w.mustJoin()
	if got := service.Calls(); len(got) != 3 {
		t.Errorf("after a restart AWS heard %q", got)
	}
	// An image that is made of the node is another instance.
	w.metadata.Set("dynamic/instance-identity/document",
		`{"instanceId":"i-0000000000000000b","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`)
	w.mustJoin()
	if got := service.Calls(); len(got) != 5 || !strings.Contains(got[4], "i-0000000000000000b") {
		t.Errorf("of the other instance AWS heard %q", got)
	}
}

func TestAnAnswerThatComesTooLateIsNotGivenAgain(t *testing.T) {
	w := newWorld(t)
	service := awsquerytest.Start(t)
	w.metadata.Set("user-data", w.listened(service, signalVariables))
	service.Fail(
		awsquerytest.Failure{Status: 400, Code: "ValidationError", Message: "Resource Workers is in CREATE_COMPLETE state and cannot be signaled"},
		awsquerytest.Failure{Status: 400, Code: "ValidationError", Message: "No active Lifecycle Action found with instance ID i-0123456789abcdef0"})
	w.mustJoin()
	if got := service.Calls(); !slices.Equal(got, success) {
		t.Errorf("AWS heard %q", got)
	}
}

func TestUserDataThatNoRetryMendsIsToldOnce(t *testing.T) {
	for name, spoil := range map[string]func(string) string{
		"a field that does not exist": func(s string) string { return strings.Replace(s, "    cidr:", "    cird:", 1) },
		"a value that is wrong":       func(s string) string { return strings.Replace(s, "10.100.0.0/16", "10.100.0.0/99", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			service := awsquerytest.Start(t)
			good := w.listened(service, signalVariables)
			w.metadata.Set("user-data", spoil(good))
			tries := 0
			w.onStatus = func(headline string) {
				if strings.Contains(headline, "configuration (try ") {
					if tries++; tries == 4 {
						w.metadata.Set("user-data", good)
					}
				}
			}
			w.mustJoin()
			if got, want := service.Calls(), slices.Concat(failure, success); !slices.Equal(got, want) {
				t.Errorf("AWS heard %q, want %q", got, want)
			}
		})
	}
}

// One that has never been a node has nothing to drain, and must not keep a rollback waiting.
func TestAnInstanceThatGivesUpIsLetGo(t *testing.T) {
	left := strings.NewReplacer("=launch ", "=terminate ").Replace(fmt.Sprintf(completed, "CONTINUE"))
	for name, test := range map[string]struct {
		prepare func(w *world)
		want    []string
	}{
		"which has never been a node": {func(*world) {}, slices.Concat(failure, []string{left})},
		"which the watch takes care of": {func(w *world) {
			if err := w.root.Apply(rootfs.File{Path: lifecycle.ConfigPath, Data: []byte("{}")}); err != nil {
				w.t.Fatal(err)
			}
		}, failure},
		"which Auto Scaling has not taken": {func(w *world) { w.metadata.Set(targetPath, "InService") }, failure},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			service := awsquerytest.Start(t)
			good := w.listened(service, signalVariables+", OVENBIRD_TERMINATION_HOOK: terminate")
			w.metadata.Set("user-data", strings.Replace(good, "    cidr:", "    cird:", 1))
			w.metadata.Set(targetPath, "Terminated")
			test.prepare(w)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			w.onStatus = func(headline string) {
				if strings.Contains(headline, "configuration (try ") {
					cancel()
				}
			}
			if err := w.join(ctx); !errors.Is(err, context.Canceled) {
				t.Fatalf("joining ended with %v", err)
			}
			if got := service.Calls(); !slices.Equal(got, test.want) {
				t.Errorf("AWS heard %q, want %q", got, test.want)
			}
		})
	}
}

func TestAFailureThatPassesIsNotToldAsOne(t *testing.T) {
	w := newWorld(t)
	service := awsquerytest.Start(t)
	w.metadata.Set("user-data", w.listened(service, signalVariables))
	w.units.fail["containerd.service"] = 3
	w.mustJoin()
	if got := service.Calls(); !slices.Equal(got, success) {
		t.Errorf("AWS heard %q", got)
	}
}

func TestAnInstanceInAWarmPoolDoesAllButRegister(t *testing.T) {
	w := newWorld(t)
	service := awsquerytest.Start(t)
	w.metadata.Set("user-data", w.listened(service, signalVariables))
	w.metadata.Set(targetPath, "Warmed:Stopped")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// It waits, is told to go, and EC2 stops it.
	w.clock.onSleep = func() {
		if len(service.Calls()) > 0 {
			cancel()
		}
	}
	if err := w.join(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("joining ended with %v", err)
	}
	if got := service.Calls(); !slices.Equal(got, success[1:]) {
		t.Errorf("AWS heard %q, want %q", got, success[1:])
	}
	if !slices.Contains(w.units.calls, "restart containerd.service") || w.server.Node(nodeName) != nil {
		t.Errorf("systemd was asked for %q, the Node is %v", w.units.calls, w.server.Node(nodeName))
	}
	if !slices.ContainsFunc(w.notified, func(state string) bool {
		return strings.Contains(state, "warm-pool (the warm pool to let the instance go (Warmed:Stopped))")
	}) {
		t.Errorf("the status never said what it waits for: %q", w.notified)
	}
	// It starts again, still in the pool, and is taken into service.
	w.clock.onSleep = func() { w.metadata.Set(targetPath, "InService") }
	status := w.mustJoin()
	if pool := phase(t, status, "warm-pool"); pool.Attempts != 1 {
		t.Errorf("waiting took %d attempts", pool.Attempts)
	}
	if got, want := service.Calls(), []string{success[1], success[0], success[1]}; !slices.Equal(got, want) {
		t.Errorf("AWS heard %q, want %q", got, want)
	}
}
