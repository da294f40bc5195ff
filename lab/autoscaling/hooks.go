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
	return g.edit(name, func(found *group) error {
		found.Hooks = slices.DeleteFunc(found.Hooks, func(old hook) bool { return old.Name == h.Name })
		found.Hooks = append(found.Hooks, h)
		return nil
	})
}

// deleteHook removes a hook. The actions that it has begun are completed with its default.
func (g *Groups) deleteHook(name, hookName string) error {
	return g.edit(name, func(found *group) error {
		index := slices.IndexFunc(found.Hooks, func(h hook) bool { return h.Name == hookName })
		if index < 0 {
			return query.Invalid("No Lifecycle Hook found with name: %s", hookName)
		}
		found.Hooks = slices.Delete(found.Hooks, index, index+1)
		for _, m := range found.Members {
			for _, a := range slices.Clone(m.Actions) {
				if a.Hook.Name == hookName {
					m.finish(a, a.Hook.Default, "Lifecycle Hook Deleted")
				}
			}
		}
		return nil
	})
}

// act changes the action that a hook of a group has on an instance; the token, if there is
// one, says which.
func (g *Groups) act(name, hookName, id, token string, change func(*member, *action)) error {
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

// waits are the states in which hooks hold up the way to another one.
func waits(next string) string {
	switch next {
	case inService:
		return pendingWait
	case warmedPendingProceed:
		return warmedPendingWait
	case warmedTerminatingProceed:
		return warmedTerminatingWait
	}
	return terminatingWait
}

// begin starts a transition to the state next, which the hooks for it hold up.
func (m *member) begin(hooks []hook, transition, next string, now time.Time) {
	m.Actions = nil
	for _, h := range hooks {
		if h.Transition == transition {
			m.Actions = append(m.Actions, action{Hook: h, Token: uuid.NewString(), Began: now, Deadline: now.Add(h.timeout())})
		}
	}
	if m.State = next; len(m.Actions) > 0 {
		m.State = waits(next)
	}
}

// finish ends an action. The member goes on when it was the last one, or when it abandons
// the launch or cuts the other hooks of a termination short; an abandoned launch ends the
// instance. How tells what ended it.
func (m *member) finish(a action, result, how string) {
	m.Actions = slices.DeleteFunc(m.Actions, func(other action) bool { return other.Token == a.Token })
	if result == abandon {
		m.Actions = nil
		if m.State == pendingWait || m.State == warmedPendingWait {
			m.Failed = "Instance failed to complete user's Lifecycle Action: Lifecycle Action with token " + a.Token + " was abandoned: " + how
			m.end("an instance was taken out of service in response to a lifecycle action that was abandoned")
			return
		}
	}
	if len(m.Actions) > 0 {
		return
	}
	switch m.State {
	case pendingWait:
		m.State = inService
	case warmedPendingWait:
		m.State = warmedPendingProceed
	case terminatingWait:
		m.State = terminatingProceed
	case warmedTerminatingWait:
		m.State = warmedTerminatingProceed
	}
}

// beat puts an action's deadline off.
func (a *action) beat(now time.Time) {
	a.Deadline = now.Add(a.Hook.timeout())
	if last := a.Began.Add(a.Hook.limit()); a.Deadline.After(last) {
		a.Deadline = last
	}
}

// expire ends the actions whose time is up and answers when the next one's is; zero when
// there is none.
func (g *group) expire(now time.Time) (next time.Time) {
	for _, m := range g.Members {
		for _, a := range slices.Clone(m.Actions) {
			switch {
			case !now.Before(a.Deadline):
				m.finish(a, a.Hook.Default, "Heartbeat Timeout")
			case next.IsZero() || a.Deadline.Before(next):
				next = a.Deadline
			}
		}
	}
	return next
}
