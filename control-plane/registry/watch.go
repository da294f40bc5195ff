package registry

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watch sends the name of every cluster that exists, and from then on of each one that is
// written or removed. It is a level trigger: a name says "look again", changes that nobody
// has looked at yet merge into one, and after a lost connection every name may come again,
// so none is missed. The channel closes when ctx ends; a slow reader blocks nobody.
func (r *Registry) Watch(ctx context.Context) <-chan string { return r.watch(ctx, clustersPrefix) }

// WatchAccessEntries is Watch for the access entries of a cluster; each is named by its
// key, which is for nothing but telling that one has changed.
func (r *Registry) WatchAccessEntries(ctx context.Context, cluster string) <-chan string {
	return r.watch(ctx, entriesPrefix+cluster+"/")
}

func (r *Registry) watch(ctx context.Context, prefix string) <-chan string {
	changed, names := make(chan string), make(chan string)
	go func() {
		defer close(changed)
		r.follow(ctx, prefix, changed)
	}()
	go coalesce(changed, names)
	return names
}

// follow lists, then watches from there, and starts over when the watch breaks.
func (r *Registry) follow(ctx context.Context, prefix string, changed chan<- string) {
	known := map[string]bool{}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			// 250 ms to 5 s, jittered.
			pause := min(5*time.Second, 250*time.Millisecond<<min(attempt-1, 5))
			select {
			case <-time.After(pause/2 + rand.N(pause/2)):
			case <-ctx.Done():
				return
			}
		}
		revision, ok := r.announceAll(ctx, prefix, known, changed)
		if ok && r.followFrom(ctx, prefix, revision+1, known, changed) {
			attempt = 0
		}
	}
}

// announceAll sends every name that exists and every known one that no longer does, and
// returns the revision that it read.
func (r *Registry) announceAll(ctx context.Context, prefix string, known map[string]bool, changed chan<- string) (revision int64, ok bool) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(call, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, false
	}
	present := map[string]bool{}
	for _, kv := range answer.Kvs {
		present[trimKey(kv.Key, prefix)] = true
	}
	maps.Copy(known, present)
	for name := range known {
		if !send(ctx, changed, name) {
			return 0, false
		}
		if !present[name] {
			delete(known, name)
		}
	}
	return answer.Header.Revision, true
}

// followFrom sends changes until the watch ends, and tells whether it had begun.
func (r *Registry) followFrom(ctx context.Context, prefix string, revision int64, known map[string]bool, changed chan<- string) (began bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := r.etcd.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(revision), clientv3.WithCreatedNotify())
	for answer := range events {
		if answer.Err() != nil {
			return began
		}
		began = true
		for _, event := range answer.Events {
			name := trimKey(event.Kv.Key, prefix)
			known[name] = true
			if !send(ctx, changed, name) {
				return began
			}
			if event.Type == clientv3.EventTypeDelete {
				delete(known, name)
			}
		}
	}
	return began
}

func send(ctx context.Context, to chan<- string, name string) bool {
	select {
	case to <- name:
		return true
	case <-ctx.Done():
		return false
	}
}

// coalesce passes names on in the order they came, each waiting one only once. When in
// closes, what still waits is dropped and out closes.
func coalesce(in <-chan string, out chan<- string) {
	defer close(out)
	var queue []string
	waiting := map[string]bool{}
	for {
		var ready chan<- string
		var next string
		if len(queue) > 0 {
			ready, next = out, queue[0]
		}
		select {
		case name, ok := <-in:
			if !ok {
				return
			}
			if !waiting[name] {
				waiting[name] = true
				queue = append(queue, name)
			}
		case ready <- next:
			queue = queue[1:]
			delete(waiting, next)
		}
	}
}
