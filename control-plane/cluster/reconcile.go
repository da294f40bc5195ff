// Package cluster makes the clusters of the registry exist, and makes deleted ones go away.
//
// It is level-triggered: every look compares what the registry wants with what there is and
// takes the next steps, so it does not matter which changes were seen, how often, or when
// the service was killed. A cluster's phases:
//
//	CREATING ──probes pass, access and add-ons applied──▶ ACTIVE ──▶ DELETING ──▶ record gone
//	    └──what no retry can mend──▶ FAILED ───────────────────────────▲
//
// RESTORING clusters are left alone: CREATING follows once their files are in place.
// ACTIVE is for good: a component that is down later is started again, and said in the
// status message. An update changes what an ACTIVE cluster should be; it is finished once
// all components run so, or fails after a while and what was before comes back. Processes
// go on running when the service stops.
package cluster

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
)

// Options are what a Reconciler works with.
type Options struct {
	Site
	Registry *registry.Registry
	Timing   supervise.Timing
	Log      *zap.Logger
	Now      func() time.Time
	// OnActive runs for every ACTIVE cluster until its context ends, when the cluster is
	// being deleted or the service stops. It must then return soon.
	OnActive func(ctx context.Context, c registry.Cluster, config *rest.Config)
}

// Reconciler looks after all clusters of a service.
type Reconciler struct {
	Options
	choosing sync.Mutex // two new clusters must not choose the same ports
}

// New returns a Reconciler that does nothing before Run.
func New(options Options) *Reconciler { return &Reconciler{Options: options} }

// Run works until ctx ends, and leaves all processes running. Each cluster has its own
// goroutine, so that a slow one holds nobody up.
func (r *Reconciler) Run(ctx context.Context) {
	r.tellOfStrays(ctx)
	names := r.Registry.Watch(ctx)
	finished := make(chan string)
	workers := map[string]*worker{}
	start := func(name string) {
		w := newWorker(r, name)
		workers[name] = w
		go func() {
			w.run(ctx)
			finished <- name
		}()
	}
	for names != nil || len(workers) > 0 {
		select {
		case name, ok := <-names:
			if !ok {
				names = nil
				continue
			}
			if w := workers[name]; w != nil {
				w.look()
			} else {
				start(name)
			}
		case name := <-finished:
			// The name may have come back to life while its worker was leaving.
			again := workers[name].asked()
			delete(workers, name)
			if again && ctx.Err() == nil {
				start(name)
			}
		}
	}
}

// tellOfStrays warns of clusters on disk that the registry does not know. No deletion
// leaves such a thing, so the registry has lost its data, and these may be all that is left
// of somebody's: they are for a person to judge.
func (r *Reconciler) tellOfStrays(ctx context.Context) {
	clusters, err := r.Registry.List(ctx)
	if err != nil {
		r.Log.Warn("look for stray clusters", zap.Error(err))
		return
	}
	known := map[string]bool{}
	for _, c := range clusters {
		known[Dir(r.StateDir, c.Name)] = true
	}
	dirs, _ := filepath.Glob(Dir(r.StateDir, "*"))
	for _, dir := range dirs {
		if !known[dir] {
			r.Log.Warn("a cluster on disk is not in the registry; restore the registry, or run `ovenbird stop` and remove the directory",
				zap.String("directory", dir))
		}
	}
}
