// Package fakeinstance plays virtual machines in memory, for what is about instances and not
// about what runs in them: groups, stacks, their policies. A machine is up in milliseconds.
// It then does what the agent does once its Node is Ready: it reads its user-data from the
// instance metadata, and signals and ends lifecycle hooks through the lab's own endpoint, as
// its instance's role. There is no node, no network and no console.
package fakeinstance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

// Instances is the fleet that the machines are in; fleet.Fleet documents the methods.
type Instances interface {
	Instances() []fleet.Instance
	Changed() <-chan struct{}
}

// Surroundings are what the machines' agents reach.
type Surroundings struct {
	Instances Instances
	Metadata  http.Handler // the instance metadata service, which tells callers by their address
	Endpoint  string       // of AWS's services: "https://host[:port]"
	Client    *http.Client // that trusts the endpoint
	Region    string
	Drain     time.Duration // how long it takes to move the pods away
	Now       func() time.Time
	Logger    *zap.Logger
}

// Machines starts and finds machines. It implements fleet.Machines.
type Machines struct {
	// Chances are nil when nothing is to go wrong.
	Chances *Chances

	mu       sync.Mutex
	machines map[string]*machine // by directory
	around   Surroundings
	opened   chan struct{} // closed by Open
}

// New makes Machines, whose agents wait for Open.
func New(chances *Chances) *Machines {
	return &Machines{Chances: chances, machines: map[string]*machine{}, opened: make(chan struct{})}
}

// Open says what surrounds the machines. It is called once: the fleet that they are in, and
// what is told of it, come after them.
func (m *Machines) Open(around Surroundings) {
	m.around = around
	close(m.opened)
}

// spec is what is kept of a machine in its directory while it runs, so that the next process
// finds it running as it would find a virtual machine.
type spec struct {
	Instance string `json:"instance"`
	Fate     Fate   `json:"fate,omitempty"`
}

func record(dir string) string { return filepath.Join(dir, "machine.json") }

// Start implements fleet.Machines.
func (m *Machines) Start(_ context.Context, of vm.Spec) (fleet.Machine, error) {
	fate := m.Chances.draw()
	if fate == FailsToStart {
		return nil, errors.New("this machine was chosen to fail")
	}
	kept := spec{Instance: of.Instance, Fate: fate}
	if err := state.WriteJSON(record(of.Dir), kept, 0o600); err != nil {
		return nil, err
	}
	return m.add(of.Dir, kept), nil
}

// Restart implements fleet.Machines: the machine has its volume, with what its agent has
// kept on it.
func (m *Machines) Restart(ctx context.Context, of vm.Spec) (fleet.Machine, error) {
	return m.Start(ctx, of)
}

// Adopt implements fleet.Machines.
func (m *Machines) Adopt(_ context.Context, dir string) (fleet.Machine, error) {
	m.mu.Lock()
	found, ok := m.machines[dir]
	m.mu.Unlock()
	if ok {
		return found, nil
	}
	data, err := os.ReadFile(record(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, vm.ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("take over the machine in %s: %w", dir, err)
	}
	var kept spec
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, fmt.Errorf("take over the machine in %s: %w", dir, err)
	}
	return m.add(dir, kept), nil
}

func (m *Machines) add(dir string, kept spec) *machine {
	made := &machine{of: m, dir: dir, spec: kept, halted: make(chan struct{}), gone: make(chan struct{})}
	made.ctx, made.cancel = context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.machines[dir] = made
	return made
}

// machine implements fleet.Machine.
type machine struct {
	of   *Machines
	dir  string
	spec spec

	ctx          context.Context // the machine's own life
	cancel       context.CancelFunc
	halted, gone chan struct{}
	run, halt    sync.Once
	kill         sync.Once
	agent        sync.WaitGroup
}

// Resume implements fleet.Machine.
func (m *machine) Resume(context.Context) error {
	m.run.Do(func() {
		m.agent.Go(func() {
			select {
			case <-m.of.opened:
				m.live()
			case <-m.ctx.Done():
			}
		})
	})
	return nil
}

// PowerDown implements fleet.Machine.
func (m *machine) PowerDown(context.Context) error {
	m.halt.Do(func() {
		m.cancel()
		close(m.halted)
	})
	return nil
}

// Kill implements fleet.Machine.
func (m *machine) Kill() {
	m.kill.Do(func() {
		m.cancel()
		go func() {
			m.agent.Wait()
			m.of.mu.Lock()
			delete(m.of.machines, m.dir)
			m.of.mu.Unlock()
			if err := os.Remove(record(m.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				m.of.around.Logger.Warn("the record of a machine stays", zap.Error(err))
			}
			close(m.gone)
		}()
	})
}

func (m *machine) Halted() <-chan struct{} { return m.halted }
func (m *machine) Gone() <-chan struct{}   { return m.gone }
func (m *machine) LastWords() string       { return "" }

// Close ends the agents, as the end of the process does. The machines are found again.
func (m *Machines) Close() {
	m.mu.Lock()
	var all []*machine
	for _, one := range m.machines {
		all = append(all, one)
	}
	m.mu.Unlock()
	for _, one := range all {
		one.cancel()
		one.agent.Wait()
	}
}
