package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// groupTag is the tag that Auto Scaling gives its instances. Their metadata shows it from
// the beginning.
const groupTag = "aws:autoscaling:groupName"

// resolve finds the launch template that settings launch from.
func (g *Groups) resolve(s settings) (LaunchTemplate, error) {
	if g.Launcher == nil {
		return LaunchTemplate{}, query.Invalid("The lab's groups do not launch instances here: want a MinSize and a DesiredCapacity of 0; attach instances with AttachInstances")
	}
	ref := s.Template
	if s.Mixed != nil {
		ref = &s.Mixed.Template
	}
	found, err := g.Launcher.Resolve(ref.name(), ref.Version)
	var refused *wire.Error
	if errors.As(err, &refused) {
		return found, query.Invalid("You must use a valid fully-formed launch template. %s", refused.Message)
	}
	if err != nil {
		return found, fmt.Errorf("find the launch template %s: %w", ref.name(), err)
	}
	return found, nil
}

// order records an instance to be launched. When that cannot be, it is an activity that has
// failed, and false.
func (g *Groups) order(group *group, now time.Time, cause, state string) bool {
	want := group.wanted()
	template, err := g.resolve(want)
	if err != nil {
		group.begins(now, "Launching a new EC2 instance.  Status Reason: "+reason(err), cause, failed, "").ends(now, failed, reason(err))
		group.failed(now)
		return false
	}
	subnet := group.emptiest()
	zone := ""
	if s, ok := g.Subnet(subnet); ok {
		zone = s.Zone
	}
	tags := map[string]string{groupTag: group.Name}
	for _, t := range group.Tags {
		if t.Propagate {
			tags[t.Key] = t.Value
		}
	}
	kind, spot := group.pick(want, template)
	m := &member{
		State: state, Added: now.UTC(), Protect: group.Protect && state == pending,
		Launch: &Launch{Template: template, Type: kind, SubnetID: subnet, Tags: tags, Spot: spot, Token: uuid.NewString()},
	}
	details := fmt.Sprintf(`{"Subnet ID":%q,"Availability Zone":%q}`, subnet, zone)
	m.Arrival = group.begins(now, "Launching a new EC2 instance", cause, preInService, details).ID
	group.Members = append(group.Members, m)
	return true
}

// emptiest is the subnet with the fewest members, the first one of those.
func (g *group) emptiest() string {
	places := g.places()
	for _, m := range g.Members {
		if m.warm() && m.Launch != nil && g.count((*member).active) >= g.Desired {
			places[m.Launch.SubnetID] = append(places[m.Launch.SubnetID], m)
		}
	}
	return slices.MinFunc(g.subnets(), func(a, b string) int { return len(places[a]) - len(places[b]) })
}

// launch launches what is recorded and has no instance yet. A process that was killed before
// it noted the instance launches it again with the same token, which gives the same one.
func (g *Groups) launch(ctx context.Context) error {
	g.mu.Lock()
	var orders []Launch
	for _, group := range g.list {
		for _, m := range group.Members {
			if m.ID == "" {
				orders = append(orders, *m.Launch)
			}
		}
	}
	g.mu.Unlock()
	for _, order := range orders {
		instance, err := g.Launcher.Launch(ctx, order)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := g.change(func() error { g.launched(order.Token, instance.ID, err); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// launched notes the instance of a launch, or why there is none.
func (g *Groups) launched(token, id string, err error) {
	for _, group := range g.list {
		for _, m := range group.Members {
			if m.Launch == nil || m.Launch.Token != token {
				continue
			}
			arrival := group.doing(m.Arrival)
			if err == nil {
				m.ID, arrival.Description = id, "Launching a new EC2 instance: "+id
				return
			}
			arrival.Description = "Launching a new EC2 instance.  Status Reason: " + reason(err)
			arrival.ends(g.Now(), failed, reason(err))
			group.failed(g.Now())
			group.Members = slices.DeleteFunc(group.Members, func(other *member) bool { return other == m })
			return
		}
	}
}

// reason is an error as activities tell it.
func reason(err error) string {
	var refused *wire.Error
	if !errors.As(err, &refused) {
		return err.Error() + ". Launching EC2 instance failed."
	}
	return strings.TrimSuffix(refused.Message, ".") + ". Launching EC2 instance failed."
}

// join makes one cause of several sentences.
func join(sentences ...string) string {
	return strings.Join(slices.DeleteFunc(sentences, func(s string) bool { return s == "" }), "  ")
}
