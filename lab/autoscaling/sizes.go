package autoscaling

import (
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// resize sets the desired capacity.
func (g *Groups) resize(name string, desired int) error {
	return g.edit(name, func(found *group) error {
		switch {
		case desired > found.Max:
			return query.Invalid("New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", desired, found.Max)
		case desired < found.Min:
			return query.Invalid("New SetDesiredCapacity value %d is below min value %d for the AutoScalingGroup.", desired, found.Min)
		case !found.launches() && desired > found.Desired:
			return query.Invalid("The lab's groups without a launch template do not launch instances: attach some with AttachInstances")
		}
		if desired != found.Desired {
			found.cause(g.Now(), "a user request explicitly set group desired capacity changing the desired capacity from %d to %d", found.Desired, desired)
		}
		if !found.launches() {
			g.shrink(found, found.Desired-desired)
		}
		found.Desired = desired
		return nil
	})
}

// shrink ends members of a group that only has what was attached to it.
func (g *Groups) shrink(found *group, by int) {
	for range by {
		if m := found.victim(); m != nil {
			m.Why = join(found.Cause, at(g.Now(), "instance %s was selected for termination", m.ID))
			found.terminate(m, g.Now())
		}
	}
}

// attach takes running instances into a group: all, or none.
func (g *Groups) attach(name string, ids []string) error {
	return g.edit(name, func(group *group) error {
		instances := g.instances()
		for _, id := range ids {
			i, ok := instances[id]
			other, _, attached := g.member(id)
			switch {
			case !ok:
				return query.Invalid("Invalid Instance ID(s): [%s] specified. Please provide valid instance IDs.", id)
			case attached:
				return query.Invalid("Instance %s is already part of AutoScalingGroup:%s", id, other.Name)
			case i.State != fleet.Running:
				return query.Invalid("Instance %s is not in correct state. Instance(s) must be in 'running' state.", id)
			}
			m := &member{ID: id, Added: g.Now().UTC(), Protect: group.Protect}
			group.cause(g.Now(), "an instance was attached in response to a user request to attach %s", id)
			m.Arrival = group.begins(g.Now(), "Attaching an existing EC2 instance: "+id, group.Cause, preInService, "").ID
			m.begin(group.Hooks, launching, inService, g.Now())
			group.Members = append(group.Members, m)
			group.Desired++
		}
		if n := group.Desired; n > group.Max {
			return query.Invalid("New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", n, group.Max)
		}
		return nil
	})
}

// detach takes instances out of a group, which run on.
func (g *Groups) detach(name string, ids []string, smaller bool) (activities []activity, err error) {
	err = g.edit(name, func(group *group) error {
		for _, id := range ids {
			index := slices.IndexFunc(group.Members, func(m *member) bool { return m.ID == id })
			if index < 0 {
				return query.Invalid("The instance %s is not part of Auto Scaling group %s.", id, name)
			}
			if m := group.Members[index]; m.State != inService {
				return query.Invalid("The instance %s is not in InService or Standby.", id)
			}
			if err := group.less(smaller); err != nil {
				return err
			}
			a := group.begins(g.Now(), "Detaching EC2 instance: "+id, at(g.Now(), "instance %s was detached in response to a user request", id), inProgress, "")
			activities = append(activities, *a)
			a.ends(g.Now(), successful, "")
			group.Members = slices.Delete(group.Members, index, index+1)
			if err := g.Fleet.Target(id, name, ""); err != nil {
				return err
			}
		}
		return nil
	})
	return activities, err
}

// less makes room for an instance that goes without a replacement.
func (g *group) less(smaller bool) error {
	switch {
	case !smaller && !g.launches():
		return query.Invalid("The lab's groups without a launch template launch no replacement: want a ShouldDecrementDesiredCapacity of true")
	case !smaller:
		return nil
	case g.Desired <= g.Min:
		return query.Invalid("Currently, desiredSize equals minSize (%d). Terminating instance without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.", g.Min)
	}
	g.Desired--
	return nil
}

// terminate ends an instance of a group, once its hooks let it go.
func (g *Groups) terminate(id string, smaller bool) (name string, told activity, err error) {
	err = g.change(func() error {
		group, m, ok := g.member(id)
		if !ok {
			return query.Invalid("Instance Id not found - No managed instance found for instance ID: %s", id)
		}
		name = group.Name
		if !m.ending() {
			if m.active() {
				if err := group.less(smaller); err != nil {
					return err
				}
			}
			m.Why = "instance " + id + " was taken out of service in response to a user request"
			group.terminate(m, g.Now())
			group.record(m, g.Now())
		}
		told = *group.doing(m.Departure)
		return nil
	})
	return name, told, err
}

// protect sets whether scale-in spares instances of a group.
func (g *Groups) protect(name string, ids []string, on bool) error {
	return g.edit(name, func(group *group) error {
		for _, id := range ids {
			index := slices.IndexFunc(group.Members, func(m *member) bool { return m.ID == id })
			if index < 0 {
				return query.Invalid("The instance %s is not part of Auto Scaling group %s.", id, name)
			}
			group.Members[index].Protect = on
		}
		return nil
	})
}

// health tells the group how an instance is. A bad word in its grace period is not heeded
// if respect is set.
func (g *Groups) health(id string, healthy, respect bool) error {
	return g.change(func() error {
		group, m, ok := g.member(id)
		switch {
		case !ok:
			return query.Invalid("Instance Id not found - No managed instance found for instance ID %s", id)
		case healthy:
			m.Sick = ""
		case respect && (m.Served.IsZero() || g.Now().Sub(m.Served).Seconds() < float64(group.Grace)):
		default:
			m.Sick = "a user health-check"
		}
		return nil
	})
}
