package fakeinstance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
)

const (
	autoScalingVersion = "2011-01-01"
	groupTag           = "aws:autoscaling:groupName"
)

// agent is what of the agent's work a machine does.
type agent struct {
	Surroundings
	id       string
	fate     Fate
	metadata *imds.Client
	signals  *lifecycle.Signals
	told     string // the target state that was seen to last
}

// live is the agent's life in the machine, until that is off.
func (m *machine) live() {
	a := &agent{Surroundings: m.of.around, id: m.spec.Instance, fate: m.spec.Fate}
	self, err := a.boot(m.ctx)
	if err != nil {
		return // the machine is off
	}
	a.metadata = imds.New("http://169.254.169.254", func(http.RoundTripper) http.RoundTripper {
		return visitor{a.Metadata, self.Address}
	})
	log := a.Logger.With(zap.String("instance", a.id))
	a.insist(m.ctx, log, func() error { return a.start(m.ctx, rootfs.Root(filepath.Join(m.dir, "root"))) })
	for m.ctx.Err() == nil {
		changed := a.Instances.Changed()
		a.insist(m.ctx, log, func() error { return a.watch(m.ctx) })
		select {
		case <-changed:
		case <-m.ctx.Done():
		}
	}
}

// boot waits until EC2 says that the instance runs, and its group, if there is one, that it
// knows it: a real machine takes longer to boot than either.
func (a *agent) boot(ctx context.Context) (fleet.Instance, error) {
	for {
		changed := a.Instances.Changed()
		for _, i := range a.Instances.Instances() {
			if i.ID == a.id && i.State == fleet.Running && (i.Tags[groupTag] == "" || i.Notices.TargetState != "") {
				return i, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fleet.Instance{}, ctx.Err()
		}
	}
}

// insist tries until it is done, or the machine is off.
func (a *agent) insist(ctx context.Context, log *zap.Logger, do func() error) {
	backoff := retry.Backoff{First: 50 * time.Millisecond, Limit: 5 * time.Second}
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Warn("the instance's agent tries again", zap.Error(err))
		if retry.Wait(ctx, backoff.Next()) != nil {
			return
		}
	}
}

// start reads user-data and tells those who wait how the node has come up.
func (a *agent) start(ctx context.Context, root rootfs.Root) error {
	data, err := a.metadata.UserData(ctx)
	if err != nil {
		return err
	}
	userData, mistake := nodeconfig.Parse(data)
	variables := userData.Spec.Instance.Environment[nodeconfig.EnvironmentDefault]
	listeners, err := lifecycle.ReadListeners(ctx, func(name string) string { return variables[name] }, a.metadata.Tag)
	if err != nil {
		return err
	}
	a.signals = &lifecycle.Signals{
		Root: root, Instance: a.id, Listeners: listeners,
		CloudFormation: a.service("cloudformation"), AutoScaling: a.service("autoscaling"),
	}
	target, err := a.metadata.TargetState(ctx)
	switch {
	case err != nil || a.fate == Silent || len(data) == 0:
		return err // without user-data there is nobody to tell
	case mistake != nil || a.fate == Fails:
		return a.signals.Failed(ctx)
	case target == "Terminated":
		return nil // too late
	case lifecycle.IsWarm(target):
		err = a.signals.Warm(ctx)
	default:
		err = a.signals.Ready(ctx)
	}
	a.told = target
	return err
}

// watch looks once at what is about to happen to the instance.
func (a *agent) watch(ctx context.Context) error {
	if a.signals == nil || a.fate == Silent || a.fate == Fails {
		return nil
	}
	target, err := a.metadata.TargetState(ctx)
	if err != nil || target == a.told {
		return err
	}
	before := a.told
	switch {
	case target == "Terminated" || lifecycle.IsWarm(target) && before == "InService":
		if err := a.drain(ctx); err != nil {
			return err
		}
		// An instance that returns to the pool leaves it through the launch hook again.
		if err := os.RemoveAll(string(a.signals.Root)); err != nil {
			return err
		}
	case lifecycle.IsWarm(before) && target == "InService":
		if err := a.signals.Ready(ctx); err != nil {
			return err
		}
	}
	a.told = target
	return nil
}

// drain ends the termination hook once the pods are away.
func (a *agent) drain(ctx context.Context) error {
	listeners := a.signals.Listeners
	if listeners.TerminationHook == "" || a.fate == NeverDrains {
		return nil
	}
	if err := retry.Wait(ctx, a.Drain); err != nil {
		return err
	}
	err := a.signals.AutoScaling.Query(ctx, autoScalingVersion, "CompleteLifecycleAction", url.Values{
		"AutoScalingGroupName": {listeners.Group}, "LifecycleHookName": {listeners.TerminationHook},
		"InstanceId": {a.id}, "LifecycleActionResult": {"CONTINUE"},
	})
	var refused *awscall.Error
	if errors.As(err, &refused) && refused.Code == "ValidationError" {
		return nil // nobody waits
	}
	return err
}

func (a *agent) service(name string) awscall.Service {
	return awscall.Service{
		Name: name, Region: a.Region, Endpoint: a.Endpoint, Credentials: a.metadata.Credentials(), Client: a.Client, Now: a.Now,
	}
}

// visitor asks a handler as if the request came from an address.
type visitor struct {
	handler http.Handler
	address netip.Addr
}

// RoundTrip implements http.RoundTripper.
func (v visitor) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := r.Clone(r.Context())
	asked.RemoteAddr = netip.AddrPortFrom(v.address, 40000).String()
	a := &answer{header: http.Header{}, status: http.StatusOK}
	v.handler.ServeHTTP(a, asked)
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r,
	}, nil
}

// answer is a handler's, kept in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header            { return a.header }
func (a *answer) WriteHeader(status int)         { a.status = status }
func (a *answer) Write(data []byte) (int, error) { return a.body.Write(data) }
