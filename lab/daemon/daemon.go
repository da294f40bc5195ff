// Package daemon is the process that a lab consists of while it is up. It runs inside the
// lab's namespace and ties the parts together: the AWS endpoint, the metadata service, DNS
// and DHCP, the proxy from the host, and the instances. It may be killed at any time; the
// next one carries on.
package daemon

import (
	"context"
	"errors"
	"net"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/dnsmasq"
	"github.com/ovenbird-dev/ovenbird/lab/fakeinstance"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// NodeProfile is the instance profile that a lab always has; its role has the same name.
const NodeProfile = "ovenbird-node"

// How long instances are given and kept, as on EC2.
const (
	shutdownLimit = 2 * time.Minute
	retention     = time.Hour
)

// Options are what `up` hands to the daemon.
type Options struct {
	Plan   vpc.Plan
	Dir    state.Dir
	Proxy  net.Listener // opened on the host's loopback
	Ready  func()       // called once everything answers
	Logger *zap.Logger
}

// Run is the daemon. It returns when the context ends, or when a part cannot go on.
func Run(ctx context.Context, o Options) error {
	if err := o.Dir.HoldDaemon(); err != nil {
		return err
	}
	networks, err := vpc.Open(o.Plan, o.Dir.Networks())
	if err != nil {
		return err
	}
	o.Plan.Networks = networks
	images, err := o.catalog()
	if err != nil {
		return err
	}
	defer images.Close()
	principals := &iam.Store{Path: o.Dir.Roles(), Plan: o.Plan, Profile: NodeProfile, Now: time.Now}
	if err := principals.Open(); err != nil {
		return err
	}
	names, instances, fake, err := o.parts(images, principals)
	if err != nil {
		return err
	}
	if err := networks.Follow(func(r *vpc.Record) error { //nolint:contextcheck // names keeps processes as long as its Run
		if err := network.Lay(o.Plan, r); err != nil {
			return err
		}
		names.Follow()
		return nil
	}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := o.serve(ctx, group, instances, images, principals, fake); err != nil {
		return err
	}
	if err := instances.Announce(); err != nil {
		return err
	}
	group.Go(func() error { return names.Run(ctx, o.Ready) })
	group.Go(func() error { instances.Run(ctx); return nil })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// parts makes the instances and what they live on. Fake machines are to be told what
// surrounds them; nil: they are virtual ones.
func (o Options) parts(images *catalog.Catalog, principals *iam.Store) (*dnsmasq.Server, *fleet.Fleet, *fakeinstance.Machines, error) {
	lab, err := o.Dir.Load()
	if err != nil {
		return nil, nil, nil, err
	}
	resolver, err := dnsmasq.Find()
	if err != nil {
		return nil, nil, nil, err
	}
	names := &dnsmasq.Server{
		Program: resolver, Plan: o.Plan, Dir: o.Dir.Names(), Log: o.Dir.Log("dnsmasq"), Logger: o.Logger.Named("dnsmasq"),
	}
	options := fleet.Options{
		Plan: o.Plan, Dir: o.Dir, Now: time.Now, Logger: o.Logger.Named("fleet"), Role: principals.Role,
		Disks: images, ShutdownLimit: shutdownLimit, Retention: retention,
	}
	var fake *fakeinstance.Machines
	if lab.FakeInstances {
		fake = fakeinstance.New(nil)
		options.Machines, options.Network = fake, signs{names}
	} else {
		programs, err := vm.FindPrograms()
		if err != nil {
			return nil, nil, nil, err
		}
		options.Machines = machines{vm.Hypervisor{Programs: programs, Accelerator: lab.Accelerator.Name, SnapshotRate: lab.SnapshotRate}}
		options.Network = wires{names}
	}
	instances, err := fleet.Open(options)
	return names, instances, fake, err
}

// machines makes vm.Hypervisor's machines the fleet's.
type machines struct{ vm.Hypervisor }

func (m machines) Start(ctx context.Context, spec vm.Spec) (fleet.Machine, error) {
	machine, err := m.Hypervisor.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return machine, nil
}

func (m machines) Restart(ctx context.Context, spec vm.Spec) (fleet.Machine, error) {
	machine, err := m.Hypervisor.Restart(ctx, spec)
	if err != nil {
		return nil, err
	}
	return machine, nil
}

func (m machines) Adopt(ctx context.Context, dir string) (fleet.Machine, error) {
	machine, err := m.Hypervisor.Adopt(ctx, dir)
	if err != nil {
		return nil, err
	}
	return machine, nil
}

// wires is the network of the namespace that the daemon is in, with its names.
type wires struct{ names *dnsmasq.Server }

func (wires) Plug(p network.Port) error             { return network.Plug(p) }
func (wires) Unplug(p network.Port) error           { return network.Unplug(p) }
func (w wires) Announce(hosts []dnsmasq.Host) error { return w.names.Apply(hosts) }

// signs is the network of fake machines: they have names, and nothing to plug in.
type signs struct{ names *dnsmasq.Server }

func (signs) Plug(network.Port) error               { return nil }
func (signs) Unplug(network.Port) error             { return nil }
func (s signs) Announce(hosts []dnsmasq.Host) error { return s.names.Apply(hosts) }

// The delays are shorter than AWS's, and long enough that a client which does not wait
// notices.
const (
	appearAfter = 500 * time.Millisecond
	settleAfter = 2 * time.Second
)

// catalog opens the snapshots and images.
func (o Options) catalog() (*catalog.Catalog, error) {
	return catalog.Open(catalog.Options{
		Dir: string(o.Dir), Account: o.Plan.Account, Regions: o.Plan.Regions(),
		Delays: catalog.Delays{Appear: appearAfter, Settle: settleAfter},
		Now:    time.Now, Logger: o.Logger.Named("catalog"), Baked: func() []catalog.Image { return baked(o.Dir, o.Plan.Region) },
	})
}

// baked are the images that `up` registered, read anew each time: `up` may add one.
func baked(dir state.Dir, region string) []catalog.Image {
	lab, err := dir.Load()
	if err != nil {
		return nil
	}
	var list []catalog.Image
	for _, i := range lab.Images {
		if dir.Intact(i) {
			list = append(list, catalog.Image{
				ID: i.ID, Region: region, Name: "ovenbird-lab-" + i.ID, Description: i.Source, Architecture: "x86_64", BootMode: "uefi",
				ENA: true, IMDS: "v2.0", RootDevice: "/dev/xvda", Created: i.RegisteredAt, Disk: dir.Image(i.ID), Size: i.Size,
			})
		}
	}
	return list
}
