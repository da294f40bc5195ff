// Package boot takes an instance from kernel start to a Ready node: phases in order, each
// tried again for as long as it takes, with a status that says at any moment what it waits
// for. No failure is final, and a process that is killed anywhere and started again
// arrives at the same node.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/containerd"
	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/kubelet"
	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/network"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

// Options are the node's surroundings.
type Options struct {
	Root     rootfs.Root
	Metadata *imds.Client
	Traffic  *traffic.Meter // counts what goes through Metadata already, and what Join adds
	Units    Units
	Commands Commands
	Disks    disk.Machine
	Clock    Clock
	Random   func() float64 // in [0, 1)
	CPUs     int
	Identity identity.Kind
	// MemoryMiB is the machine's MemTotal.
	MemoryMiB int
	BootID    string   // of the running kernel, as kubelet reports it
	Environ   []string // "NAME=value", the agent's own
	Release   string   // the agent's
	Log       *zap.Logger
	Console   io.Writer
	Notify    func(state string) error // sd_notify
	// Journal returns the last lines that unit has written. Nil: nobody can tell.
	Journal func(ctx context.Context, unit string) ([]string, error)
	// Examine returns the first thing that is wrong with the machine and what to do about
	// it, "" and "" when nothing is. Nil: nobody looks.
	Examine func(ctx context.Context) (found, whatToDo string)
}

// Join makes the instance a Ready node, or a host of control planes when its user-data says so,
// tells, and returns when those who wait for it know too, or when ctx ends.
func Join(ctx context.Context, options Options) error {
	n := &node{Options: options}
	n.runner = &runner{clock: n.Clock, random: n.Random, report: n.changed, lasting: n.failsForLong, status: Status{Agent: n.Release}}
	n.reporter = newReporter(options, n.status)
	defer n.reporter.start()()
	if err := n.runner.run(ctx, n.firstPhases()); err != nil {
		return fmt.Errorf("joining was interrupted: %w", err)
	}
	phases, afterwards := n.phases(), n.afterwards
	if n.facts.UserData.Host != nil {
		phases, afterwards = n.hostPhases(), n.afterHosting
	}
	if err := n.runner.run(ctx, phases); err != nil {
		return fmt.Errorf("joining was interrupted: %w", err)
	}
	ready := n.Clock.SinceBoot()
	n.runner.describe(func(s *Status) { s.Ready = seconds(ready) })
	status := n.status()
	n.headline = status.Headline()
	n.reporter.tell(ready.Seconds(), "%s", n.headline)
	n.reporter.write() // before systemd hears: who waits for it may look at once
	if err := n.Notify("READY=1\nSTATUS=" + n.headline); err != nil {
		return fmt.Errorf("tell systemd that the node is ready: %w", err)
	}
	if err := n.runner.run(ctx, afterwards(status)); err != nil {
		return fmt.Errorf("what follows joining was interrupted: %w", err)
	}
	return nil
}

// node is what the phases find out and hand on. A phase writes before it is done and
// those that need it read after, so nothing is locked.
type node struct {
	Options
	runner   *runner
	reporter *reporter

	facts  Facts
	env    environment
	files  Files
	pair   identity.Pair // none when the node shows tokens
	tokens *identity.Tokens
	client *apiserver.Client
	seen   *apiserver.Node // as it was last seen since this start
	told   bool            // it has the conditions

	headline string // what systemd heard last

	signals *lifecycle.Signals
}

// status is that of the node as it is now.
func (n *node) status() Status {
	status := n.runner.now()
	status.Traffic = n.Traffic.Counts()
	return status
}

// firstPhases find out what the instance is to be.
func (n *node) firstPhases() []Phase {
	return []Phase{
		// The service is the instance's own and comes with the network: ask often.
		{Name: "metadata", Attempt: 15 * time.Second, Longest: time.Second, Run: n.readMetadata},
		{Name: "configuration", Needs: []string{"metadata"}, Attempt: 30 * time.Second, Run: n.orGiveUp(n.readConfiguration)},
	}
}

// phases follow on a node.
func (n *node) phases() []Phase {
	return []Phase{
		// Before anything writes to a directory that moves onto another drive.
		{Name: "storage", Attempt: storageAttempt, Run: n.prepareStorage},
		// Beside the others, as they may take long; kubelet starts on what they leave.
		{Name: "scripts", Needs: []string{"storage"}, Attempt: scriptsAttempt, Run: n.runScripts},
		{Name: "files", Needs: []string{"storage"}, Attempt: time.Minute, Run: n.writeFiles},
		// containerd and the certificate take longest, so they go side by side.
		{Name: "containerd", Needs: []string{"files"}, Attempt: 3 * time.Minute, Run: n.startUnit(containerdUnit)},
		{Name: "identity", Needs: []string{"storage"}, Attempt: 3 * time.Minute, Run: n.identify},
		// kubelet's watches back off far when it starts before the API server answers.
		{Name: "api-server", Needs: []string{"identity"}, Attempt: 30 * time.Second, Run: n.awaitAPIServer},
		// No Node may be there for an instance that Auto Scaling keeps in reserve.
		{Name: "warm-pool", Needs: []string{"containerd", "api-server", "scripts"}, Attempt: warmAttempt, Run: n.leaveWarmPool},
		{Name: "kubelet", Needs: []string{"warm-pool"}, Attempt: 3 * time.Minute, Run: n.startUnit(kubeletUnit)},
		{Name: "network", Needs: []string{"kubelet"}, Attempt: 5 * time.Minute, Run: n.configureNetwork},
		{Name: "ready", Needs: []string{"network"}, Attempt: 5 * time.Minute, Run: n.awaitReady},
	}
}

func (n *node) readMetadata(ctx context.Context, _ func(string)) error {
	instance, err := n.Metadata.Instance(ctx)
	if err != nil {
		return err
	}
	n.facts.Instance = instance
	n.runner.describe(func(s *Status) { s.Instance, s.Node = instance.ID, n.facts.NodeName() })
	return nil
}

func (n *node) readConfiguration(ctx context.Context, tell func(string)) error {
	data, err := n.Metadata.UserData(ctx)
	if err != nil {
		return withAdvice(err, advice.Metadata)
	}
	dropIns, err := ReadDropIns(n.Root)
	if err != nil {
		return withAdvice(err, advice.Image)
	}
	n.facts.UserData = nodeconfig.UserData{}
	if data != nil || len(dropIns) > 0 { // an instance without any can have a tag that names its cluster
		if n.facts.UserData, err = nodeconfig.Parse(data, dropIns...); err != nil {
			return withAdvice(fmt.Errorf("user-data: %w", err), advice.UserData)
		}
	}
	n.facts.CPUs, n.facts.MemoryMiB = n.CPUs, n.MemoryMiB
	n.facts.Identity, n.facts.Environ = n.Identity, n.Environ
	if n.facts.UserData.Host != nil {
		return n.readHost(ctx)
	}
	if n.facts.Tags, err = n.Metadata.Tags(ctx, kubelet.IsNodeTag); err != nil {
		return err
	}
	if n.facts.Interface, err = network.Primary(n.Root, n.facts.Instance.MAC); err != nil {
		return err
	}
	if n.facts.Accelerators, err = containerd.FindAccelerators(n.Root); err != nil {
		return err
	}
	n.env = n.facts.environment()
	if err = n.listen(ctx); err != nil {
		return err
	}
	if n.facts.Cluster, err = n.discover(ctx, tell); err != nil {
		return err
	}
	if err = n.readIPv6(ctx); err != nil {
		return err
	}
	n.env = n.facts.environment() // which has the cluster's services now
	if n.facts.Image, err = image.Read(n.Root); err != nil {
		return withAdvice(err, advice.Image)
	}
	n.describe()
	return nil
}

// readIPv6 reads the address that a node of an IPv6 cluster needs. The instance may get it yet.
func (n *node) readIPv6(ctx context.Context) error {
	if !n.facts.Cluster.ServiceCIDR.Addr().Is6() {
		return nil
	}
	var err error
	if n.facts.Instance.IPv6, err = n.Metadata.IPv6(ctx); err != nil {
		return withAdvice(err, advice.Metadata)
	}
	if _, err = n.facts.nodeIP(); err != nil {
		return withAdvice(err, advice.IPv6Address)
	}
	return nil
}

// describe tells what user-data has made of the instance.
func (n *node) describe() {
	warnings := n.facts.Warnings()
	n.runner.describe(func(s *Status) {
		s.Node, s.Cluster, s.Warnings, s.Hosts = n.facts.NodeName(), n.facts.Cluster.Name, warnings, n.facts.UserData.Host != nil
	})
	for _, warning := range warnings {
		n.Log.Warn("configuration", zap.String("warning", warning))
	}
}

func (n *node) writeFiles(ctx context.Context, _ func(string)) error {
	var err error
	if n.files, err = n.facts.Files(); err != nil {
		return err
	}
	return n.apply(ctx)
}

// apply writes the files, marks whose have changed, and has the machine's own services read
// theirs.
func (n *node) apply(ctx context.Context) error {
	for _, group := range []struct {
		unit  string
		files []rootfs.File
	}{
		{manager, n.files.Environment},
		{networkUnit, n.files.Network},
		{resolverUnit, n.files.Resolver},
		{containerdUnit, n.files.Containerd},
		{kubeletUnit, n.files.Kubelet},
		{hostUnit, n.files.Host},
	} {
		if err := n.markStale(group.unit, group.files); err != nil {
			return err
		}
		if err := n.Root.Apply(group.files...); err != nil {
			return err
		}
	}
	asItIs := func() error { return nil }
	if err := n.refresh(manager, func() error { return n.Units.Reload(ctx) }, asItIs); err != nil {
		return err
	}
	if err := n.refresh(networkUnit, func() error { return n.Units.ReloadNetwork(ctx) }, asItIs); err != nil {
		return err
	}
	return n.refresh(resolverUnit, func() error { return n.Units.Restart(ctx, resolverUnit) }, asItIs)
}

func (n *node) configureNetwork(ctx context.Context, tell func(string)) error {
	if n.facts.Cluster.IsAmazonEKS() {
		return nil // a DaemonSet of the cluster's does it
	}
	var files []rootfs.File
	tell("the Node and its pod CIDR")
	_, err := n.client.AwaitNode(ctx, n.facts.NodeName(), func(node *apiserver.Node) (bool, error) {
		var err error
		files, err = network.FilesFor(node)
		if errors.Is(err, network.ErrNoAddresses) {
			tell(err.Error())
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return n.Root.Apply(files...)
}

func (n *node) awaitReady(ctx context.Context, tell func(string)) error {
	said := "kubelet has not reported since this start"
	tell(said)
	_, err := n.client.AwaitNode(ctx, n.facts.NodeName(), func(node *apiserver.Node) (bool, error) {
		if node.Status.NodeInfo.BootID != n.BootID {
			return false, nil // what an earlier start left there
		}
		n.see(ctx, node)
		for _, condition := range node.Status.Conditions {
			if condition.Type == apiserver.ReadyCondition {
				said = condition.Message
				tell(said)
				return condition.Status == apiserver.True, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("%w (%s)", err, said)
	}
	return nil
}
