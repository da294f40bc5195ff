// Package fleet is the instances that exist. It records each change before it acts, in
// one file that is written whole, and drives every instance towards what the record says,
// from wherever an earlier process left off: machines that still run are adopted, launches
// and shutdowns that were cut short are carried on.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/dnsmasq"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Errors that callers tell apart.
var (
	ErrAddressInUse = errors.New("the address is in use")
	ErrNoAddresses  = errors.New("the subnet has no free addresses")
	ErrTokenReused  = errors.New("the client token was used for another request")
)

// NotFoundError names instances that do not exist.
type NotFoundError struct{ IDs []string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("no instances %v", e.IDs) }

// Machine is a virtual machine; vm.Machine documents the methods.
type Machine interface {
	Resume(context.Context) error
	PowerDown(context.Context) error
	Kill()
	Halted() <-chan struct{}
	Gone() <-chan struct{}
	LastWords() string
}

// Machines starts and finds virtual machines; vm.Hypervisor documents the methods.
type Machines interface {
	Start(context.Context, vm.Spec) (Machine, error)
	Restart(context.Context, vm.Spec) (Machine, error)
	Adopt(ctx context.Context, dir string) (Machine, error)
}

// Disks finds what an instance of an image starts from; catalog.Catalog documents the
// method.
type Disks interface {
	Disk(image string) (path string, uefiData []byte, err error)
}

// Network gives instances their place, address and name.
type Network interface {
	Plug(network.Port) error
	Unplug(network.Port) error
	Announce([]dnsmasq.Host) error // these hosts and no others
}

// Options are a fleet's surroundings.
type Options struct {
	Plan     vpc.Plan
	Dir      state.Dir
	Machines Machines
	Disks    Disks
	Network  Network
	Now      func() time.Time
	Logger   *zap.Logger
	// Role is the name of an instance profile's role, empty when there is none any more; nil:
	// every role has the name of its profile.
	Role func(profile string) string

	// ShutdownLimit is how long a guest may take to power off when its instance is
	// terminated, stopped or rebooted.
	ShutdownLimit time.Duration
	// Retention is how long a terminated instance stays listed.
	Retention time.Duration
}

// Fleet is safe for concurrent use.
type Fleet struct {
	Options
	drivers sync.WaitGroup

	mu        sync.Mutex
	ctx       context.Context // of Run, while that lasts
	instances map[string]*entry
	changed   chan struct{} // closed at the next change
	announced sync.Mutex    // announcements reach the network in order
}

type entry struct {
	Instance
	changed chan struct{} // one message: look at the state again
}

// Open reads the fleet's record. Nothing happens before Run.
func Open(o Options) (*Fleet, error) {
	list, err := Read(o.Dir)
	if err != nil {
		return nil, err
	}
	f := &Fleet{Options: o, instances: map[string]*entry{}, changed: make(chan struct{})}
	for _, i := range list {
		// A record of before instances could be started again does not say so.
		i.HasVolume = i.HasVolume || i.State == Running || i.State == Stopped
		f.instances[i.ID] = &entry{Instance: i, changed: make(chan struct{}, 1)}
	}
	return f, nil
}

// Read reads a fleet's record without running it.
func Read(dir state.Dir) ([]Instance, error) {
	data, err := os.ReadFile(dir.Fleet())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the instances: %w", err)
	}
	var list []Instance
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read the instances from %s: %w", dir.Fleet(), err)
	}
	return list, nil
}

// Run drives the instances until the context ends. Their machines run on after that.
func (f *Fleet) Run(ctx context.Context) {
	f.mu.Lock()
	f.ctx = ctx
	for id := range f.instances {
		f.drivers.Go(func() { f.drive(ctx, id) })
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.ctx = nil // no driver is started from here on
	f.mu.Unlock()
	f.drivers.Wait()
}

// Instances lists every instance that is known, in the order of their launch.
func (f *Fleet) Instances() []Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list()
}

func (f *Fleet) list() []Instance {
	list := make([]Instance, 0, len(f.instances))
	for _, e := range f.instances {
		list = append(list, e.Instance)
	}
	slices.SortFunc(list, func(a, b Instance) int {
		if c := a.LaunchTime.Compare(b.LaunchTime); c != 0 {
			return c
		}
		if a.ReservationID != b.ReservationID {
			return strings.Compare(a.ReservationID, b.ReservationID)
		}
		return a.LaunchIndex - b.LaunchIndex
	})
	return list
}

// ByAddress finds the instance that has the address now, on any of its interfaces.
func (f *Fleet) ByAddress(addr netip.Addr) (Instance, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.instances {
		if e.HasAddress() && (e.Address == addr || slices.ContainsFunc(e.Interfaces, func(n Interface) bool { return n.Address == addr })) {
			return e.Instance, true
		}
	}
	return Instance{}, false
}

// Sessions are the ARNs of the role sessions that instances have.
func (f *Fleet) Sessions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var arns []string
	for _, e := range f.instances {
		if role := f.role(e.Profile); role != "" && e.State != Terminated {
			arns = append(arns, f.Plan.AssumedRole(role, e.ID))
		}
	}
	return arns
}

func (f *Fleet) role(profile string) string {
	if f.Role == nil || profile == "" {
		return profile
	}
	return f.Role(profile)
}

// get is a snapshot of one instance.
func (f *Fleet) get(id string) (Instance, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.instances[id]
	if !ok {
		return Instance{}, false
	}
	return e.Instance, true
}

// move takes an instance from one state to the next. It does nothing when the instance
// has left the first state meanwhile.
func (f *Fleet) move(id string, from, to State, why Reason) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.instances[id]
	if !ok || e.State != from {
		return nil
	}
	before := e.Instance
	e.State, e.Reason, e.StateTime, e.Rebooting = to, why, f.Now().UTC(), false
	switch to {
	case Running:
		e.HasVolume = true
	case Stopped:
		e.settleStopped()
	case Terminated:
		e.Interfaces = nil // they are free for other instances
	}
	if err := f.save(); err != nil {
		e.Instance = before
		return err
	}
	f.Logger.Info("instance changed state", zap.String("instance", id),
		zap.String("from", string(from)), zap.String("to", string(to)), zap.String("reason", why.Message))
	return nil
}

// save writes the record. The caller holds mu.
func (f *Fleet) save() error {
	// User-data may hold secrets.
	if err := state.WriteJSON(f.Dir.Fleet(), f.list(), 0o600); err != nil {
		return err
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// Changed is closed at the next change of any instance.
func (f *Fleet) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// Announce tells the network which addresses instances have. The fleet does so itself whenever
// that changes.
func (f *Fleet) Announce() error {
	f.announced.Lock()
	defer f.announced.Unlock()
	var hosts []dnsmasq.Host
	for _, i := range f.Instances() {
		if i.HasAddress() {
			hosts = append(hosts, dnsmasq.Host{MAC: i.HardwareAddr(), Address: i.Address})
		}
		for _, n := range i.Interfaces {
			hosts = append(hosts, dnsmasq.Host{MAC: n.hardwareAddr(), Address: n.Address})
		}
	}
	return f.Network.Announce(hosts)
}
