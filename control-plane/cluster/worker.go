package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/oidc"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
)

const (
	// refresh is how often keys are checked and add-ons applied again.
	refresh = 10 * time.Minute
	// firstRetry and lastRetry bound the wait after a failed step.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
	// updateLimit is how long an update may take: a component has two minutes to start, and
	// one that another trouble holds up gets its chance too.
	updateLimit = 5 * time.Minute
	// updatePause is how often a cluster is looked at that has an update in progress.
	updatePause = 5 * time.Second
	// reportPause keeps a cluster that is in trouble from writing to the registry all the time.
	reportPause = time.Second
)

// worker looks after one cluster.
type worker struct {
	*Reconciler
	name string
	log  *zap.Logger
	wake chan struct{} // holds one request to look

	supervisor *supervise.Supervisor
	begun      bool      // the supervisor has had its components described
	keysAt     time.Time // when keys were last checked
	trust      string    // what the description said last
	applied    time.Time // when access and add-ons were last applied
	failures   int       // steps that failed in a row
	reported   time.Time // when the record's status was last written
	unsaid     bool      // a message is held back until reportPause is over
	updating   struct {  // the update in progress; its time begins anew with every service
		id    string
		since time.Time
	}

	leave func() // ends OnActive and waits for it; nil: not running
}

func newWorker(r *Reconciler, name string) *worker {
	log := r.Log.With(zap.String("cluster", name))
	return &worker{
		Reconciler: r, name: name, log: log, wake: make(chan struct{}, 1),
		supervisor: supervise.New(runDir(Dir(r.StateDir, name)), r.Timing, log),
	}
}

// look asks for another look.
func (w *worker) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// asked takes a request that nobody has acted on.
func (w *worker) asked() bool {
	select {
	case <-w.wake:
		return true
	default:
		return false
	}
}

// run looks again and again until the cluster is gone or ctx ends.
func (w *worker) run(ctx context.Context) {
	defer w.letGo()
	for ctx.Err() == nil {
		changed := w.supervisor.Changed()
		gone, err := w.converge(ctx)
		if gone || ctx.Err() != nil {
			return
		}
		pause := refresh
		switch {
		case err != nil:
			pause = w.retryAfter()
			w.log.Warn("cluster is not as it should be", zap.Error(err), zap.Duration("next_look_in", pause))
		case w.unsaid:
			pause = reportPause
			fallthrough
		default:
			w.failures = 0
			if w.updating.id != "" {
				pause = min(pause, updatePause)
			}
		}
		if !w.await(ctx, changed, pause) {
			return
		}
	}
}

// await blocks until there is reason to look again; false: ctx has ended.
func (w *worker) await(ctx context.Context, changed <-chan struct{}, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-w.wake:
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// retryAfter doubles with every failure, half of it drawn at random.
func (w *worker) retryAfter() time.Duration {
	pause := min(lastRetry, firstRetry<<min(w.failures, 16))
	w.failures++
	return pause/2 + rand.N(pause/2)
}

// converge takes the steps that can be taken now. gone: the cluster is no more.
func (w *worker) converge(ctx context.Context) (gone bool, err error) {
	w.unsaid = false
	c, err := w.Registry.Get(ctx, w.name)
	if errors.Is(err, registry.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if c.Deleting {
		if err := w.remove(ctx, c); err != nil {
			return false, errors.Join(err, w.say(ctx, c, registry.PhaseDeleting, err.Error()))
		}
		return true, nil
	}
	if c.Status.Phase == registry.PhaseFailed || c.Status.Phase == registry.PhaseRestoring {
		return false, nil
	}
	err = w.make(ctx, c)
	if ctx.Err() != nil {
		return false, err
	}
	if err != nil {
		err = w.report(ctx, c, err)
	}
	return false, errors.Join(err, w.giveUp(ctx, c, err))
}

// make takes a cluster one look further towards ACTIVE, or keeps it there.
func (w *worker) make(ctx context.Context, c registry.Cluster) error {
	c, err := w.identify(ctx, c)
	if err != nil {
		return err
	}
	description, err := w.prepare(c)
	if err != nil {
		return err
	}
	components := component.ControlPlane(description)
	if err := w.supervisor.Apply(components); err != nil {
		return err
	}
	w.begun = true
	states := w.supervisor.States()
	if !ready(states, component.APIServer) {
		return w.waiting(ctx, c, states)
	}
	// Applying needs the API server only, and passes the time while the others start.
	if w.Now().Sub(w.applied) >= refresh {
		if err := apply(ctx, description); err != nil {
			return err
		}
		w.applied = w.Now()
		states = w.supervisor.States()
	}
	for _, wanted := range components {
		if !ready(states, wanted.Name) {
			return w.waiting(ctx, c, states)
		}
	}
	return w.activate(ctx, c, description)
}

// identify gives a cluster its issuer, once.
func (w *worker) identify(ctx context.Context, c registry.Cluster) (registry.Cluster, error) {
	if c.Issuer != "" {
		return c, nil
	}
	issuer, err := oidc.NewURL(w.PublicHost)
	if err != nil {
		return c, err
	}
	return w.Registry.Change(ctx, c.Name, func(latest *registry.Cluster) error {
		latest.Issuer = issuer
		return nil
	})
}

// prepare describes the control plane and sees to its keys.
func (w *worker) prepare(c registry.Cluster) (component.Cluster, error) {
	idle := false
	if !w.begun {
		running, err := supervise.Running(Dir(w.StateDir, c.Name))
		if err != nil {
			return component.Cluster{}, err
		}
		idle = len(running) == 0
	}
	w.choosing.Lock()
	description, err := w.describe(c, idle)
	w.choosing.Unlock()
	if err != nil {
		return component.Cluster{}, err
	}
	if now := w.Now(); now.Sub(w.keysAt) >= refresh {
		changed, err := w.ensureKeys(description, now)
		if err != nil {
			return component.Cluster{}, err
		}
		if len(changed) > 0 {
			w.log.Info("made or renewed keys", zap.Strings("names", changed))
		}
		w.keysAt = now
	}
	if description.Trust, err = pki.Fingerprint(description.Authorities()...); err != nil {
		return component.Cluster{}, err
	}
	if w.leave != nil && w.trust != description.Trust {
		w.leave() // its client has read the former authority
	}
	w.trust = description.Trust
	return description, nil
}

func ready(states []supervise.State, name string) bool {
	for _, state := range states {
		if state.Name == name {
			return state.Phase == supervise.Ready
		}
	}
	return false
}

// waiting says in the record what the cluster waits for. It is no failure: the supervisor
// goes on, and wakes the worker.
func (w *worker) waiting(ctx context.Context, c registry.Cluster, states []supervise.State) error {
	var reasons []string
	for _, state := range states {
		if state.Phase == supervise.Backoff || state.Phase == supervise.Unready {
			reasons = append(reasons, fmt.Sprintf("%s is down: %s", state.Name, state.Message))
		}
	}
	// That an ACTIVE cluster's processes are being found again is no news to anybody.
	if len(reasons) == 0 && c.Status.Phase == registry.PhaseActive {
		return nil
	}
	if len(reasons) == 0 {
		for _, state := range states {
			if state.Phase != supervise.Ready {
				reasons = append(reasons, "waiting for "+state.Name)
				break
			}
		}
	}
	return w.say(ctx, c, c.Status.Phase, strings.Join(reasons, "; "))
}

// activate reports the cluster ACTIVE and starts what runs beside an ACTIVE cluster.
func (w *worker) activate(ctx context.Context, c registry.Cluster, description component.Cluster) error {
	authority, _ := description.Credentials()
	certificate, err := os.ReadFile(authority)
	if err != nil {
		return fmt.Errorf("read the cluster's authority: %w", err)
	}
	status := registry.Status{
		Phase: registry.PhaseActive, KubernetesVersion: description.Release.Kubernetes,
		Endpoint: description.Endpoint(), CertificateAuthority: certificate,
	}
	update := c.UpdateID
	if c, err = w.write(ctx, c, status); err != nil {
		return err
	}
	if err := w.complete(ctx, update); err != nil {
		return err
	}
	if w.leave == nil {
		w.log.Info("cluster is active", zap.String("endpoint", status.Endpoint), zap.Duration("age", w.Now().Sub(c.CreatedAt)))
		w.attend(ctx, c, client(description))
	}
	return nil
}

// attend starts OnActive.
func (w *worker) attend(ctx context.Context, c registry.Cluster, config *rest.Config) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if w.OnActive != nil {
			w.OnActive(ctx, c, config)
		}
	}()
	w.leave = func() {
		cancel()
		<-done
		w.leave = nil
	}
}

// remove ends a cluster: processes, files, record, in that order, so that whatever is left
// after being killed in between is found again by the record.
func (w *worker) remove(ctx context.Context, c registry.Cluster) error {
	if err := w.say(ctx, c, registry.PhaseDeleting, ""); err != nil {
		return err
	}
	if w.leave != nil {
		w.leave()
	}
	if err := w.supervisor.Stop(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(Dir(w.StateDir, c.Name)); err != nil {
		return fmt.Errorf("remove files of cluster %s: %w", c.Name, err)
	}
	latest, err := w.Registry.Get(ctx, c.Name)
	if err == nil {
		err = w.Registry.Delete(ctx, latest)
	}
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	w.log.Info("cluster is deleted")
	return nil
}

// letGo leaves the processes to the next service.
func (w *worker) letGo() {
	if w.leave != nil {
		w.leave()
	}
	w.supervisor.Detach()
}
