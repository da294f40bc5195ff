package autoscaling

import (
	"slices"
	"time"
)

// policies are the termination policies that the lab knows.
func policies() []string {
	return []string{"Default", "OldestInstance", "NewestInstance", "OldestLaunchTemplate"}
}

// scaleIn ends as many members as are above the desired capacity.
func (g *Groups) scaleIn(group *group, now time.Time) {
	if group.suspended("Terminate") {
		return
	}
	launching := group.count(func(m *member) bool { return m.active() && m.ID == "" }) // their turn comes once they have an ID
	over := group.count((*member).active) - group.Desired - group.extra() - launching
	have := group.count((*member).active)
	for range over {
		m := group.victim()
		if m == nil {
			return
		}
		m.Why = at(now, "an instance was taken out of service in response to a difference between desired and actual capacity, shrinking the capacity from %d to %d", have, have-1)
		m.Why = join(group.Cause, m.Why, at(now, "instance %s was selected for termination", m.ID))
		group.leave(m, now)
		have--
	}
}

// victim is the next member to be ended by a scale-in; nil when all are protected. Those
// that leave anyway, or are not in service yet, come first.
func (g *group) victim() *member {
	var candidates []*member
	for _, m := range g.Members {
		if !m.active() || m.ID == "" {
			continue
		}
		if m.Leaving != "" || m.State != inService {
			return m
		}
		if !m.Protect {
			candidates = append(candidates, m)
		}
	}
	candidates = g.fullest(candidates)
	for _, policy := range g.Policies {
		candidates = narrow(policy, candidates)
	}
	candidates = narrow("OldestInstance", candidates)
	if len(candidates) == 0 {
		return nil
	}
	return candidates[0]
}

// fullest are the candidates in the subnet that has most members, which every policy looks
// at first. Members that were attached are wherever they are.
func (g *group) fullest(candidates []*member) []*member {
	places, most := g.places(), 0
	for _, m := range candidates {
		if m.Launch != nil {
			most = max(most, len(places[m.Launch.SubnetID]))
		}
	}
	if most == 0 {
		return candidates
	}
	return keep(candidates, func(m *member) bool { return m.Launch != nil && len(places[m.Launch.SubnetID]) == most })
}

// narrow keeps the candidates that a policy finds equally fit to end.
func narrow(policy string, candidates []*member) []*member {
	if len(candidates) == 0 {
		return nil
	}
	first := func(less func(a, b *member) int) []*member {
		best := slices.MinFunc(candidates, less)
		return keep(candidates, func(m *member) bool { return less(m, best) == 0 })
	}
	switch policy {
	case "NewestInstance":
		return first(func(a, b *member) int { return b.Added.Compare(a.Added) })
	case "OldestInstance":
		return first(func(a, b *member) int { return a.Added.Compare(b.Added) })
	}
	// Default, OldestLaunchTemplate
	return first(func(a, b *member) int { return a.version() - b.version() })
}

// version is that of the launch template; those without any are the oldest.
func (m *member) version() int {
	if m.Launch == nil {
		return 0
	}
	return m.Launch.Template.Version
}

func keep(members []*member, fit func(*member) bool) []*member {
	var kept []*member
	for _, m := range members {
		if fit(m) {
			kept = append(kept, m)
		}
	}
	return kept
}
