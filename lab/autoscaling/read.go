package autoscaling

import (
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// readSettings reads what a request says of a group's settings over what they were.
func (s Service) readSettings(p *query.Params, was settings) settings {
	now := was
	now.Min = p.Within("MinSize", 0, maxGroup, was.Min)
	now.Max = p.Within("MaxSize", 0, maxGroup, was.Max)
	now.Desired = p.Within("DesiredCapacity", 0, maxGroup, min(max(was.Desired, now.Min), now.Max))
	now.Cooldown = p.Within("DefaultCooldown", 0, 1<<30, was.Cooldown)
	now.HealthCheck = p.OneOf("HealthCheckType", was.HealthCheck, "EC2", "ELB")
	now.Grace = p.Within("HealthCheckGracePeriod", 0, 1<<30, was.Grace)
	now.Rebalance = flag(p, "CapacityRebalance", was.Rebalance)
	now.Protect = flag(p, "NewInstancesProtectedFromScaleIn", was.Protect)
	if warmup := p.Within("DefaultInstanceWarmup", -1, maxWarmup, -2); warmup == -1 {
		now.Warmup = nil
	} else if warmup >= 0 {
		now.Warmup = &warmup
	}
	if p.Within("MaxInstanceLifetime", 0, 1<<30, 0) != 0 {
		p.Fail(query.Invalid("The lab does not support the parameter MaxInstanceLifetime"))
	}
	p.OneOf("DesiredCapacityType", "units", "units")
	if p.Given("TerminationPolicies") {
		now.Policies = p.List("TerminationPolicies")
		for _, policy := range now.Policies {
			if !slices.Contains(policies(), policy) {
				p.Fail(query.Invalid("The lab does not support the termination policy %s: want one of %v", policy, policies()))
			}
		}
	}
	if subnets := p.Text("VPCZoneIdentifier"); subnets != "" {
		now.Subnets = strings.ReplaceAll(subnets, " ", "")
		for id := range strings.SplitSeq(now.Subnets, ",") {
			if _, ok := s.Groups.Subnet(id); !ok {
				p.Fail(query.Invalid("The subnet ID '%s' does not exist", id))
			}
		}
	}
	s.readSource(p, was, &now)
	if now.Min > now.Max {
		p.Fail(query.Invalid("Max bound, %d, must be greater than or equal to min bound, %d", now.Max, now.Min))
	}
	if now.Desired < now.Min || now.Desired > now.Max {
		p.Fail(query.Invalid("Desired capacity:%d must be between the specified min size:%d and max size:%d", now.Desired, now.Min, now.Max))
	}
	return now
}

// flag is a parameter that is true or false, or what it was.
func flag(p *query.Params, name string, was bool) bool {
	if !p.Given(name) {
		return was
	}
	return p.Flag(name)
}

// readSource reads what instances are launched from, which must exist.
func (s Service) readSource(p *query.Params, was settings, into *settings) {
	plain, policy := p.Given("LaunchTemplate"), p.Given("MixedInstancesPolicy")
	switch {
	case plain && policy:
		p.Fail(query.Invalid("Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter."))
		return
	case plain:
		ref := readRef(p, "LaunchTemplate")
		into.Template, into.Mixed = &ref, nil
	case policy:
		into.Template, into.Mixed = nil, readMixed(p, "MixedInstancesPolicy", into.Mixed)
	case !into.launches():
		if into.Min > was.Min || into.Desired > was.Desired {
			p.Fail(query.Invalid("The lab's groups without a launch template do not launch instances: want a MinSize and a DesiredCapacity of 0; attach instances with AttachInstances"))
		}
		return
	default:
		return
	}
	template, err := s.Groups.resolve(*into)
	switch {
	case err != nil:
		p.Fail(err)
	case template.InstanceType == "" && (into.Mixed == nil || len(into.Mixed.Types) == 0):
		p.Fail(query.Invalid("You must use a valid fully-formed launch template. The request must contain the parameter InstanceType"))
	}
}

// readRef reads which launch template is meant.
func readRef(p *query.Params, prefix string) templateRef {
	ref := templateRef{ID: p.Text(prefix + ".LaunchTemplateId"), Name: p.Text(prefix + ".LaunchTemplateName"), Version: p.Text(prefix + ".Version")}
	if (ref.ID == "") == (ref.Name == "") {
		p.Fail(query.Invalid("Valid requests must contain either launchTemplateId or LaunchTemplateName"))
	}
	return ref
}

func readMixed(p *query.Params, prefix string, was *mixed) *mixed {
	template, distribution := prefix+".LaunchTemplate", prefix+".InstancesDistribution"
	now := mixed{Percentage: 100, OnDemand: prioritized, Spot: lowestPrice, Pools: 2}
	if was != nil {
		now = *was
	}
	if p.Given(template) {
		now.Template, now.Types = readRef(p, template+".LaunchTemplateSpecification"), nil
		for _, override := range p.Members(template + ".Overrides") {
			kind := p.Required(override + ".InstanceType")
			if _, ok := fleet.FindType(kind); !ok && kind != "" {
				p.Fail(query.Invalid("You must use a valid fully-formed launch template. Invalid value '%s' for InstanceType. The lab has no such instance type", kind))
			}
			now.Types = append(now.Types, kind)
		}
	} else if was == nil {
		p.Fail(query.Invalid("A MixedInstancesPolicy must contain a LaunchTemplate"))
	}
	now.Base = p.Within(distribution+".OnDemandBaseCapacity", 0, maxGroup, now.Base)
	now.Percentage = p.Within(distribution+".OnDemandPercentageAboveBaseCapacity", 0, 100, now.Percentage)
	now.OnDemand = p.OneOf(distribution+".OnDemandAllocationStrategy", now.OnDemand, prioritized, lowestPrice)
	now.Spot = p.OneOf(distribution+".SpotAllocationStrategy", now.Spot, lowestPrice, "capacity-optimized", capacityPrioritized, "price-capacity-optimized")
	now.Pools = p.Within(distribution+".SpotInstancePools", 1, 20, now.Pools)
	if price := p.Text(distribution + ".SpotMaxPrice"); price != "" {
		p.Fail(query.Invalid("The lab does not support the parameter %s.SpotMaxPrice", distribution))
	}
	return &now
}

// readTags reads the tags of a new group.
func readTags(p *query.Params) (tags []tag) {
	for _, prefix := range p.Members("Tags") {
		p.Text(prefix + ".ResourceId")
		p.OneOf(prefix+".ResourceType", "auto-scaling-group", "auto-scaling-group")
		t := tag{Key: p.Required(prefix + ".Key"), Value: p.Text(prefix + ".Value"), Propagate: flag(p, prefix+".PropagateAtLaunch", false)}
		if slices.ContainsFunc(tags, func(other tag) bool { return other.Key == t.Key }) {
			p.Fail(query.Invalid("Duplicate tag key: %s", t.Key))
		}
		tags = append(tags, t)
	}
	return tags
}

// readHook reads a lifecycle hook whose parameters begin with prefix.
func readHook(p *query.Params, prefix string) hook {
	h := hook{
		Name:       p.Required(prefix + "LifecycleHookName"),
		Transition: p.OneOf(prefix+"LifecycleTransition", "", launching, terminating),
		Heartbeat:  p.Within(prefix+"HeartbeatTimeout", minHeartbeat, maxHeartbeat, heartbeat),
		Default:    p.OneOf(prefix+"DefaultResult", abandon, proceed, abandon),
		Metadata:   p.Text(prefix + "NotificationMetadata"),
	}
	p.Required(prefix + "LifecycleTransition")
	return h
}

// readGroup reads a new group.
func (s Service) readGroup(p *query.Params) *group {
	g := &group{Name: p.Required("AutoScalingGroupName"), Created: s.Groups.Now().UTC()}
	g.defaults()
	p.Required("MinSize")
	p.Required("MaxSize")
	g.settings = s.readSettings(p, g.settings)
	g.Tags = readTags(p)
	for _, prefix := range p.Members("LifecycleHookSpecificationList") {
		g.Hooks = append(g.Hooks, readHook(p, prefix+"."))
	}
	g.TargetGroups = p.List("TargetGroupARNs")
	switch {
	case len(g.Name) > maxName || strings.Contains(g.Name, ":"):
		p.Fail(query.Invalid("1 validation error detected: Value '%s' at 'autoScalingGroupName' failed to satisfy constraint", g.Name))
	case g.Subnets == "":
		p.Fail(query.Invalid("At least one Availability Zone or VPC Subnet is required."))
	}
	return g
}
