package autoscaling

import "slices"

// templateRef names a launch template as a group does.
type templateRef struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"` // as given; empty: the default
}

func (r templateRef) name() string {
	if r.ID != "" {
		return r.ID
	}
	return r.Name
}

// mixed is a mixed instances policy. The lab's capacity costs the same everywhere and does
// not run out: strategies that go by price or capacity spread the instances evenly over the
// types, those that go by priority take the first.
type mixed struct {
	Template   templateRef `json:"template"`
	Types      []string    `json:"types,omitempty"` // the overrides; none: the template's
	Base       int         `json:"base"`            // instances on demand at least
	Percentage int         `json:"percentage"`      // of those above, on demand
	OnDemand   string      `json:"onDemand"`        // allocation strategies
	Spot       string      `json:"spot"`
	Pools      int         `json:"pools,omitempty"` // of lowest-price
}

// Strategies that take the first of the overrides.
const (
	prioritized         = "prioritized"
	capacityPrioritized = "capacity-optimized-prioritized"
	lowestPrice         = "lowest-price"
)

// onDemand is how many of n instances are to be so.
func (m *mixed) onDemand(n int) int {
	above := max(0, n-m.Base)
	return min(n, m.Base) + (above*m.Percentage+99)/100
}

// pick is the type of the next instance, and whether it is a Spot Instance. A type whose
// launch failed gives way to the next one.
func (g *group) pick(s settings, template LaunchTemplate) (kind string, spot bool) {
	if s.Mixed == nil {
		return template.InstanceType, false
	}
	staying := func(m *member) bool { return m.active() && m.Leaving == "" && m.Launch != nil }
	spot = g.count(func(m *member) bool { return staying(m) && !m.Launch.Spot }) >= s.Mixed.onDemand(g.count(staying)+1)
	types := s.Mixed.Types
	if len(types) == 0 {
		return template.InstanceType, spot
	}
	strategy := s.Mixed.OnDemand
	if spot {
		strategy = s.Mixed.Spot
	}
	if strategy == lowestPrice && spot {
		types = types[:min(len(types), max(1, s.Mixed.Pools))]
	}
	first := g.Failures % len(types)
	turned := slices.Concat(types[first:], types[:first])
	if strategy == prioritized || strategy == capacityPrioritized {
		return turned[0], spot
	}
	return slices.MinFunc(turned, func(a, b string) int { return g.ofType(a, spot) - g.ofType(b, spot) }), spot
}

func (g *group) ofType(kind string, spot bool) int {
	return g.count(func(m *member) bool {
		return m.active() && m.Launch != nil && m.Launch.Type == kind && m.Launch.Spot == spot
	})
}
