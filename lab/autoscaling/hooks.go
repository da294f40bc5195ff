package autoscaling

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// longestWait bounds a lifecycle action however often its heartbeat is recorded: a hundred
// timeouts, at most 48 hours (PutLifecycleHook).
const longestWait = 48 * time.Hour

type hook struct {
	Name       string `json:"name"`
	Transition string `json:"transition"`
	Heartbeat  int    `json:"heartbeat"` // seconds
	Default    string `json:"default"`   // result when the time is up
	Metadata   string `json:"metadata,omitempty"`
}

// limit bounds how long an action of the hook lasts.
func (h hook) limit() time.Duration { return min(100*h.timeout(), longestWait) }

func (h hook) timeout() time.Duration { return time.Duration(h.Heartbeat) * time.Second }

// action is one hook's hold on an instance. It keeps the hook as it was at the beginning.
type action struct {
	Hook     hook      `json:"hook"`
	Token    string    `json:"token"`
	Began    time.Time `json:"began"`
	Deadline time.Time `json:"deadline"`
}

func (g *Groups) putHook(name string, h hook) error {
	return g.change(func() error {
		group, err := g.find(name)
		if err != nil {
			return err
		}
		group.Hooks = slices.DeleteFunc(group.Hooks, func(old hook) bool { return old.Name == h.Name })
		group.Hooks = append(group.Hooks, h)
		return nil
	})
}

// act changes the action that a hook of a group has on an instance; the token, if there is
// one, says which.
func (g *Groups) act(name, hookName, id, token string, change func(*member, *action)) error {
	defer g.wake()
	return g.change(func() error {
		group, err := g.find(name)
		if err != nil {
			return err
		}
		for _, m := range group.Members {
			for index := range m.Actions {
				a := &m.Actions[index]
				if a.Hook.Name == hookName && (id == "" || m.ID == id) && (token == "" || a.Token == token) {
					change(m, a)
					return nil
				}
			}
		}
		if token != "" {
			return query.Invalid("No active Lifecycle Action found with token %s", token)
		}
		return query.Invalid("No active Lifecycle Action found with instance ID %s", id)
	})
}

// begin starts a transition, which the hooks for it hold up.
func (m *member) begin(hooks []hook, transition string, now time.Time) {
	m.Actions = nil
	for _, h := range hooks {
		if h.Transition == transition {
			m.Actions = append(m.Actions, action{Hook: h, Token: uuid.NewString(), Began: now, Deadline: now.Add(h.timeout())})
		}
	}
	wait, next := pendingWait, inService
	if transition == terminating {
		wait, next = terminatingWait, terminatingProceed
	}
	m.State = next
	if len(m.Actions) > 0 {
		m.State = wait
	}
}

// finish ends an action. The member goes on when it was the last one, or when it abandons
// the launch or cuts the other hooks of a termination short; an abandoned launch ends the
// instance.
func (m *member) finish(token, result string) {
	m.Actions = slices.DeleteFunc(m.Actions, func(a action) bool { return a.Token == token })
	if result == abandon {
		m.Actions = nil
	}
	switch {
	case len(m.Actions) > 0:
	case m.State == pendingWait && result != abandon:
		m.State = inService
	default:
		m.State = terminatingProceed
	}
}

// beat puts an action's deadline off.
func (a *action) beat(now time.Time) {
	a.Deadline = now.Add(a.Hook.timeout())
	if last := a.Began.Add(a.Hook.limit()); a.Deadline.After(last) {
		a.Deadline = last
	}
}
