package autoscaling

import (
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

func (s Service) createGroup(p *query.Params) (any, error) {
	g := s.readGroup(p)
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.create(g)
}

func (s Service) updateGroup(p *query.Params) (any, error) {
	name := p.Required("AutoScalingGroupName")
	return nil, s.Groups.edit(name, func(found *group) error {
		next := s.readSettings(p, found.settings)
		if err := p.Done(); err != nil {
			return err
		}
		found.set(s.Groups, next)
		return nil
	})
}

// set changes a group's settings.
func (g *group) set(of *Groups, next settings) {
	if next.Desired != g.Desired {
		g.cause(of.Now(), "a user request update of AutoScalingGroup constraints to min: %d, max: %d, desired: %d changing the desired capacity from %d to %d",
			next.Min, next.Max, next.Desired, g.Desired, next.Desired)
		if !g.launches() && !next.launches() {
			of.shrink(g, g.Desired-next.Desired)
		}
	}
	g.settings = next
	g.forgive()
}

func (s Service) deleteGroup(p *query.Params) (any, error) {
	name, force := p.Required("AutoScalingGroupName"), p.Flag("ForceDelete")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.remove(name, force)
}

func (s Service) setDesired(p *query.Params) (any, error) {
	name := p.Required("AutoScalingGroupName")
	p.Required("DesiredCapacity")
	desired := p.Within("DesiredCapacity", 0, maxGroup, 0)
	p.Flag("HonorCooldown") // only scaling policies begin a cooldown, and there are none
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.resize(name, desired)
}

// instanceIDs reads which instances are meant.
func instanceIDs(p *query.Params, most int) []string {
	ids := p.List("InstanceIds")
	switch {
	case len(ids) == 0:
		p.Fail(query.Invalid("At least one instance ID is required"))
	case len(ids) > most:
		p.Fail(query.Invalid("Only up to %d instances can be named at once", most))
	}
	return ids
}

func (s Service) attach(p *query.Params) (any, error) {
	name, ids := p.Required("AutoScalingGroupName"), instanceIDs(p, maxAttached)
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.attach(name, ids)
}

type detached struct {
	Activities []activityItem `xml:"Activities>member"`
}

func (s Service) detach(p *query.Params) (any, error) {
	name, ids, smaller := p.Required("AutoScalingGroupName"), instanceIDs(p, maxAttached), p.Flag("ShouldDecrementDesiredCapacity")
	p.Required("ShouldDecrementDesiredCapacity")
	if err := p.Done(); err != nil {
		return nil, err
	}
	list, err := s.Groups.detach(name, ids, smaller)
	var result detached
	for _, a := range list {
		result.Activities = append(result.Activities, a.item(name))
	}
	return result, err
}

type terminated struct {
	Activity activityItem `xml:"Activity"`
}

func (s Service) terminate(p *query.Params) (any, error) {
	id, smaller := p.Required("InstanceId"), p.Flag("ShouldDecrementDesiredCapacity")
	p.Required("ShouldDecrementDesiredCapacity")
	if err := p.Done(); err != nil {
		return nil, err
	}
	name, told, err := s.Groups.terminate(id, smaller)
	if err != nil {
		return nil, err
	}
	return terminated{told.item(name)}, nil
}

func (s Service) setProtection(p *query.Params) (any, error) {
	name, ids, on := p.Required("AutoScalingGroupName"), instanceIDs(p, 50), p.Flag("ProtectedFromScaleIn")
	p.Required("ProtectedFromScaleIn")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.protect(name, ids, on)
}

func (s Service) setHealth(p *query.Params) (any, error) {
	id, status := p.Required("InstanceId"), p.OneOf("HealthStatus", "", "Healthy", "Unhealthy")
	p.Required("HealthStatus")
	respect := flag(p, "ShouldRespectGracePeriod", true)
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.health(id, status == "Healthy", respect)
}

// processes that can be suspended.
func processes() []string {
	return []string{"Launch", "Terminate", "AddToLoadBalancer", "AlarmNotification", "AZRebalance", "HealthCheck", "InstanceRefresh", "ReplaceUnhealthy", "ScheduledActions"}
}

func (s Service) suspend(p *query.Params) (any, error) {
	return s.pause(p, func(found *group, names []string) { found.suspend(names) })
}

func (s Service) resume(p *query.Params) (any, error) {
	return s.pause(p, func(found *group, names []string) { found.resume(names) })
}

func (s Service) pause(p *query.Params, change func(*group, []string)) (any, error) {
	name, names := p.Required("AutoScalingGroupName"), p.List("ScalingProcesses")
	if len(names) == 0 {
		names = processes()
	}
	for _, process := range names {
		if !slices.Contains(processes(), process) {
			p.Fail(query.Invalid("%s is not a valid process type. Valid values are: %v", process, processes()))
		}
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.edit(name, func(found *group) error {
		change(found, names)
		return nil
	})
}

// suspend suspends processes and answers which of them went on until now.
func (g *group) suspend(names []string) (stopped []string) {
	for _, process := range names {
		if !g.suspended(process) {
			g.Suspended, stopped = append(g.Suspended, process), append(stopped, process)
		}
	}
	return stopped
}

func (g *group) resume(names []string) {
	g.Suspended = slices.DeleteFunc(g.Suspended, func(process string) bool { return slices.Contains(names, process) })
}

func (s Service) putHook(p *query.Params) (any, error) {
	name, h := p.Required("AutoScalingGroupName"), readHook(p, "")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.putHook(name, h)
}

func (s Service) deleteHook(p *query.Params) (any, error) {
	name, hookName := p.Required("AutoScalingGroupName"), p.Required("LifecycleHookName")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.deleteHook(name, hookName)
}

// held reads which action of a hook is meant.
func held(p *query.Params) (group, name, id, token string) {
	group, name = p.Required("AutoScalingGroupName"), p.Required("LifecycleHookName")
	id, token = p.Text("InstanceId"), p.Text("LifecycleActionToken")
	if id == "" && token == "" {
		p.Fail(query.Invalid("Either a LifecycleActionToken or an InstanceId must be given"))
	}
	return group, name, id, token
}

func (s Service) complete(p *query.Params) (any, error) {
	group, name, id, token := held(p)
	result := p.OneOf("LifecycleActionResult", "", proceed, abandon)
	p.Required("LifecycleActionResult")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.act(group, name, id, token, func(m *member, a *action) {
		m.finish(*a, result, "Lifecycle Action Completed with "+result+" Result")
	})
}

func (s Service) heartbeat(p *query.Params) (any, error) {
	group, name, id, token := held(p)
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.act(group, name, id, token, func(_ *member, a *action) { a.beat(s.Groups.Now()) })
}

func (s Service) putPool(p *query.Params) (any, error) {
	name := p.Required("AutoScalingGroupName")
	return empty{}, s.Groups.putPool(name, func(made *pool) error {
		made.Min = p.Within("MinSize", 0, maxGroup, made.Min)
		if prepared := p.Within("MaxGroupPreparedCapacity", -1, maxGroup, -2); prepared == -1 {
			made.Prepared = nil
		} else if prepared >= 0 {
			made.Prepared = &prepared
		}
		if p.Text("PoolState") == "Hibernated" {
			p.Fail(query.Invalid("The lab does not support the parameter PoolState with the value Hibernated"))
		}
		made.State = p.OneOf("PoolState", made.State, poolStopped, poolRunning)
		made.Reuse = flag(p, "InstanceReusePolicy.ReuseOnScaleIn", made.Reuse)
		return p.Done()
	})
}

func (s Service) deletePool(p *query.Params) (any, error) {
	name, force := p.Required("AutoScalingGroupName"), p.Flag("ForceDelete")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.removePool(name, force)
}

type refreshID struct {
	ID string `xml:"InstanceRefreshId"`
}

func (s Service) startRefresh(p *query.Params) (any, error) {
	const preferences, desired = "Preferences.", "DesiredConfiguration"
	name := p.Required("AutoScalingGroupName")
	p.OneOf("Strategy", "Rolling", "Rolling")
	r := &refresh{
		MinHealthy: p.Within(preferences+"MinHealthyPercentage", 0, 100, 90), MaxHealthy: p.Within(preferences+"MaxHealthyPercentage", 100, 200, 100),
		Warmup: p.Within(preferences+"InstanceWarmup", 0, maxWarmup, -1), SkipMatching: p.Flag(preferences + "SkipMatching"), AutoRollback: p.Flag(preferences + "AutoRollback"),
	}
	p.OneOf(preferences+"StandbyInstances", "Wait", "Wait", "Ignore") // there are none
	r.Protected = p.OneOf(preferences+"ScaleInProtectedInstances", "Wait", "Wait", "Ignore", "Refresh")
	switch {
	case p.Given(desired + ".LaunchTemplate"):
		ref := readRef(p, desired+".LaunchTemplate")
		r.Wanted = &source{Template: &ref}
	case p.Given(desired + ".MixedInstancesPolicy"):
		r.Wanted = &source{Mixed: readMixed(p, desired+".MixedInstancesPolicy", nil)}
	}
	if r.MaxHealthy-r.MinHealthy > 100 {
		p.Fail(query.Invalid("The difference between MaxHealthyPercentage and MinHealthyPercentage must not be greater than 100."))
	}
	if r.AutoRollback && r.Wanted == nil {
		p.Fail(query.Invalid("AutoRollback cannot be set to true without a DesiredConfiguration."))
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	err := s.Groups.startRefresh(name, r)
	return refreshID{r.ID}, err
}

func (s Service) cancelRefresh(p *query.Params) (any, error)   { return s.stopRefresh(p, false) }
func (s Service) rollbackRefresh(p *query.Params) (any, error) { return s.stopRefresh(p, true) }

func (s Service) stopRefresh(p *query.Params, back bool) (any, error) {
	name := p.Required("AutoScalingGroupName")
	if err := p.Done(); err != nil {
		return nil, err
	}
	id, err := s.Groups.stopRefresh(name, back)
	return refreshID{id}, err
}
