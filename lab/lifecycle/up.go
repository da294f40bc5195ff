// Package lifecycle brings a lab up and takes it down. Both may be run at any time, cut
// short at any point and run again: they look at what is there and do the rest.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ovenbird-dev/ovenbird/lab/access"
	"github.com/ovenbird-dev/ovenbird/lab/control"
	"github.com/ovenbird-dev/ovenbird/lab/dnsmasq"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// DefaultName is the lab's name, and its namespace's, unless another is given.
const DefaultName = "ovenbird"

// Auto lets `up` find out how instances can run.
const Auto = "auto"

// Request is what `up` is asked for.
type Request struct {
	Dir         state.Dir
	Name        string // empty: the lab's own, or DefaultName
	Image       string // disk to register as the lab's AMI; empty: none
	Accelerator string // Auto, vm.KVM or vm.TCG; empty: what was found before, or Auto
	// SnapshotRate is how fast volumes of instances started from now on fetch their
	// snapshot's blocks, in MiB/s, 0 for at once; nil: as before.
	SnapshotRate *int
	// FakeInstances makes a new lab one whose instances are played in memory.
	FakeInstances bool
	Plan          vpc.Plan
	Steps         progress.Steps
}

// names are those that `ip netns` and a file system take, and that a shell does not split.
var names = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// up is one run of Up.
type up struct {
	Request
	programs vm.Programs
	image    *state.Image // to register; nil: none
	lab      state.Lab
	stale    bool // a daemon that runs knows another accelerator or rate
}

// Up makes a lab, or completes one. It answers whether anything had to be done. When a
// lab that was not there before cannot be brought up, nothing is left of the attempt.
func Up(ctx context.Context, r Request) (lab state.Lab, changed bool, err error) {
	u := &up{Request: r}
	if err := u.check(); err != nil {
		return state.Lab{}, false, err
	}
	//nolint:gosec // clients that are not root read the certificate in there; secrets have modes of their own
	if err := os.MkdirAll(string(r.Dir), 0o755); err != nil {
		return state.Lab{}, false, fmt.Errorf("make the lab's state directory: %w", err)
	}
	unlock, err := r.Dir.Lock()
	if err != nil {
		return state.Lab{}, false, err
	}
	defer unlock()
	fresh, err := u.open()
	if err != nil {
		return state.Lab{}, false, err
	}
	if !fresh && u.complete(ctx) {
		return u.lab, false, nil
	}
	if err := u.build(ctx); err != nil {
		if fresh {
			// Not with ctx, which may be what ended the attempt.
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, remove(clean, r.Dir, u.lab.Name))
		}
		return state.Lab{}, false, err
	}
	return u.lab, true, nil
}

// check finds what is missing on this machine, and mistakes, before anything is made.
func (u *up) check() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for a network namespace and virtual machines; try sudo")
	}
	if u.Name != "" && !names.MatchString(u.Name) {
		return fmt.Errorf("the name %q is no good: want letters, digits, dots, dashes and underscores, at most 63, a letter or digit first", u.Name)
	}
	var err error
	if u.programs, err = vm.FindPrograms(); err != nil && !u.fake() {
		return err
	}
	if _, err := dnsmasq.Find(); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return errors.New("this machine has no /dev/net/tun, which instances need for their network: load the tun module, or give the container the device")
	}
	if u.Image != "" {
		image, err := state.InspectImage(u.Image, time.Now())
		if err != nil {
			return err
		}
		u.image = &image
	}
	return nil
}

// fake tells whether the lab's instances are, or will be, played in memory.
func (u *up) fake() bool {
	lab, err := u.Dir.Load()
	return u.FakeInstances || err == nil && lab.FakeInstances
}

// open reads the lab, or records that there is to be one. The record comes before what it
// speaks of, so that whatever a crash leaves behind belongs to a lab.
func (u *up) open() (fresh bool, err error) {
	u.lab, err = u.Dir.Load()
	switch {
	case err == nil:
		if u.Name != "" && u.Name != u.lab.Name {
			return false, fmt.Errorf("the lab in %s is named %q, not %q: give another one its own --state-dir", u.Dir, u.lab.Name, u.Name)
		}
		if u.FakeInstances && !u.lab.FakeInstances {
			return false, fmt.Errorf("the instances of the lab in %s are virtual machines: give one with fake instances its own --state-dir", u.Dir)
		}
		return false, nil
	case !errors.Is(err, state.ErrNoLab):
		return false, err
	}
	entries, err := os.ReadDir(string(u.Dir))
	if err != nil {
		return false, fmt.Errorf("look into the state directory: %w", err)
	}
	if len(entries) > 0 {
		return false, fmt.Errorf("%s holds no lab and is not empty: name a directory of the lab's own with --state-dir", u.Dir)
	}
	name := u.Name
	if name == "" {
		name = DefaultName
	}
	there, err := namespace.Exists(name)
	if err != nil {
		return false, err
	}
	if there {
		return false, u.taken(name)
	}
	u.lab = state.Lab{Name: name, FakeInstances: u.FakeInstances, CreatedAt: time.Now().UTC()}
	return true, u.Dir.Save(u.lab)
}

// taken says whose the namespace of that name is. The state directory, made a moment ago,
// is not to stay.
func (u *up) taken(name string) error {
	_ = os.Remove(string(u.Dir))
	whose := "is not a lab's"
	if of := ownerOf(name, u.Plan); of != "" {
		whose = "belongs to the " + of
	}
	return fmt.Errorf("the network namespace %q exists already and %s: choose another name with --name, or take that one down", name, whose)
}

// complete tells whether there is nothing to do.
func (u *up) complete(ctx context.Context) bool {
	if u.image != nil {
		if newest, ok := u.lab.Newest(); !ok || newest.ID != u.image.ID || !u.Dir.Intact(newest) {
			return false
		}
	}
	if u.Accelerator != "" && u.Accelerator != Auto && u.Accelerator != u.lab.Accelerator.Name {
		return false
	}
	if u.SnapshotRate != nil && *u.SnapshotRate != u.lab.SnapshotRate {
		return false
	}
	if _, err := os.Stat(u.Dir.Policy()); err != nil {
		return false // made by a release that had none
	}
	return u.daemonAnswers(ctx) == nil
}

// build does what is not done yet.
func (u *up) build(ctx context.Context) error {
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"making keys and certificates", u.secrets},
		{"finding out how instances run here", u.accelerate},
		{"setting how fast volumes are", u.rate},
		{"registering the image", u.register},
		{"laying the network in namespace " + u.lab.Name, u.lay},
		{"starting the lab's services", u.start},
	}
	for _, step := range steps {
		if err := u.Steps.Do(step.what, func() error { return step.do(ctx) }); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("interrupted while %s: %w", step.what, err)
		}
	}
	return nil
}

func (u *up) secrets(context.Context) error {
	if err := u.Dir.Make(); err != nil {
		return err
	}
	resolv := fmt.Sprintf("# The resolver of lab %s, for commands inside it.\nnameserver %s\nsearch %s\n", u.lab.Name, u.Plan.Resolver, u.Plan.DNSSuffix())
	return errors.Join(
		identity.EnsureCredentials(u.Dir.Credentials(), u.Plan.IAM("user/admin")),
		identity.EnsurePolicy(u.Dir.Policy(), u.Plan.IAM("user/admin")),
		identity.EnsureSecret(u.Dir.Secret()),
		identity.EnsureTLS(u.Dir.CA(), u.Dir.TLS(), []identity.Endpoint{
			{File: "aws", Name: vpc.EndpointName, Address: u.Plan.Endpoint},
			{File: "registry", Name: vpc.RegistryName, Address: u.Plan.Registry},
			{File: "eks", Name: vpc.ControlPlaneName, Address: u.Plan.ControlPlane},
		}, time.Now()),
		renameio.WriteFile(u.Dir.Resolv(), []byte(resolv), 0o644),
	)
}

// accelerate decides once how instances run. A change reaches instances started after it.
func (u *up) accelerate(ctx context.Context) error {
	chosen := u.Accelerator
	var reason string
	switch {
	case u.lab.FakeInstances:
		chosen, reason = "none", "instances are played in memory"
	case chosen == vm.KVM || chosen == vm.TCG:
		reason = "asked for with --accelerator"
	case chosen == "" && u.lab.Accelerator.Name != "":
		return nil
	default:
		var err error
		if chosen, reason, err = vm.Probe(ctx, u.programs); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() // a probe that was cut short proves nothing
	}
	u.stale = u.stale || chosen != u.lab.Accelerator.Name
	u.lab.Accelerator = state.Accelerator{Name: chosen, Reason: reason}
	return u.Dir.Save(u.lab)
}

// rate reaches volumes made after it.
func (u *up) rate(context.Context) error {
	if u.SnapshotRate == nil || *u.SnapshotRate == u.lab.SnapshotRate {
		return nil
	}
	u.stale, u.lab.SnapshotRate = true, *u.SnapshotRate
	return u.Dir.Save(u.lab)
}

// register makes the image the lab's newest, and drops those that nothing uses any more.
func (u *up) register(context.Context) error {
	if u.image == nil {
		return nil
	}
	var err error
	if u.lab, err = u.Dir.Register(u.lab, *u.image); err != nil {
		return err
	}
	instances, err := fleet.Read(u.Dir)
	if err != nil {
		return err
	}
	used := map[string]bool{u.image.ID: true}
	for _, i := range instances {
		used[i.ImageID] = true
	}
	var kept []state.Image
	for _, i := range u.lab.Images {
		if used[i.ID] {
			kept = append(kept, i)
		} else if err := os.Remove(u.Dir.Image(i.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop image %s: %w", i.ID, err)
		}
	}
	u.lab.Images = kept
	return u.Dir.Save(u.lab)
}

func (u *up) lay(context.Context) error {
	there, err := namespace.Exists(u.lab.Name)
	if err != nil {
		return err
	}
	if !there {
		if err := namespace.Create(u.lab.Name); err != nil {
			return err
		}
	}
	return namespace.Do(u.lab.Name, func() error { return network.Setup(u.Plan, owner(u.Dir)) })
}

func (u *up) start(ctx context.Context) error {
	if !u.stale && u.daemonAnswers(ctx) == nil {
		return nil
	}
	return u.startDaemon(ctx)
}

// daemonAnswers tells whether a daemon is at work in the lab's namespace and answers.
func (u *up) daemonAnswers(ctx context.Context) error {
	pid, ok := u.Dir.Daemon()
	if !ok {
		return errors.New("no daemon runs")
	}
	if inside, err := namespace.Holds(u.lab.Name, pid); err != nil || !inside {
		return fmt.Errorf("daemon %d is not in namespace %s", pid, u.lab.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if err := access.Check(ctx, u.Dir, u.lab, u.Plan); err != nil {
		return err
	}
	// A daemon of an earlier release has no control socket.
	_, err := control.Client(u.Dir.Control()).State(ctx)
	return err
}

// owner is what marks a namespace as the lab's; an interface's alias holds 255 bytes.
func owner(dir state.Dir) string {
	path := string(dir)
	if over := len(path) - 200; over > 0 {
		path = "..." + path[over:]
	}
	return "ovenbird lab in " + path
}

// ownerOf is what marks the namespace; empty when it is no lab's.
func ownerOf(name string, plan vpc.Plan) (whose string) {
	_ = namespace.Do(name, func() error {
		whose = network.Owner(plan)
		return nil
	})
	return whose
}
