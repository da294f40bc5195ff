package autoscaling

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

type specification struct {
	ID      string `xml:"LaunchTemplateId,omitempty"`
	Name    string `xml:"LaunchTemplateName,omitempty"`
	Version string `xml:"Version,omitempty"`
}

type instanceItem struct {
	ID        string         `xml:"InstanceId"`
	Type      string         `xml:"InstanceType"`
	Group     string         `xml:"AutoScalingGroupName,omitempty"`
	Zone      string         `xml:"AvailabilityZone"`
	State     string         `xml:"LifecycleState"`
	Health    string         `xml:"HealthStatus"`
	Template  *specification `xml:"LaunchTemplate"`
	Protected bool           `xml:"ProtectedFromScaleIn"`
}

func (m *member) item(i fleet.Instance) instanceItem {
	item := instanceItem{ID: m.ID, Type: i.Type, Zone: i.Zone, State: m.State, Health: "Healthy", Protected: m.Protect}
	if m.Sick != "" {
		item.Health = "Unhealthy"
	}
	if m.Launch != nil {
		t := m.Launch.Template
		item.Template = &specification{t.ID, t.Name, strconv.Itoa(t.Version)}
	}
	return item
}

type override struct {
	Type string `xml:"InstanceType"`
}

type mixedItem struct {
	Template struct {
		Specification specification `xml:"LaunchTemplateSpecification"`
		Overrides     []override    `xml:"Overrides>member"`
	} `xml:"LaunchTemplate"`
	Distribution struct {
		OnDemand   string `xml:"OnDemandAllocationStrategy"`
		Base       int    `xml:"OnDemandBaseCapacity"`
		Percentage int    `xml:"OnDemandPercentageAboveBaseCapacity"`
		Spot       string `xml:"SpotAllocationStrategy"`
		Pools      int    `xml:"SpotInstancePools,omitempty"`
	} `xml:"InstancesDistribution"`
}

// specification is the launch template as requests name it, and with the ID or name that
// they left out.
func (g *Groups) specification(ref templateRef) specification {
	out := specification(ref)
	if g.Launcher != nil {
		if found, err := g.Launcher.Resolve(ref.name(), ref.Version); err == nil {
			out.ID, out.Name = found.ID, found.Name
		}
	}
	return out
}

func (g *Groups) policy(m *mixed) *mixedItem {
	item := new(mixedItem)
	item.Template.Specification = g.specification(m.Template)
	for _, kind := range m.Types {
		item.Template.Overrides = append(item.Template.Overrides, override{kind})
	}
	d := &item.Distribution
	d.OnDemand, d.Base, d.Percentage, d.Spot = m.OnDemand, m.Base, m.Percentage, m.Spot
	if m.Spot == lowestPrice {
		d.Pools = m.Pools
	}
	return item
}

type suspension struct {
	Process string `xml:"ProcessName"`
	Reason  string `xml:"SuspensionReason"`
}

type tagItem struct {
	Group     string `xml:"ResourceId"`
	Kind      string `xml:"ResourceType"`
	Key       string `xml:"Key"`
	Value     string `xml:"Value"`
	Propagate bool   `xml:"PropagateAtLaunch"`
}

func (t tag) item(group string) tagItem {
	return tagItem{group, "auto-scaling-group", t.Key, t.Value, t.Propagate}
}

type poolItem struct {
	Prepared *int   `xml:"MaxGroupPreparedCapacity"`
	Min      int    `xml:"MinSize"`
	State    string `xml:"PoolState"`
	Status   string `xml:"Status,omitempty"`
	Reuse    *reuse `xml:"InstanceReusePolicy"`
}

type reuse struct {
	OnScaleIn bool `xml:"ReuseOnScaleIn"`
}

func (p *pool) item() *poolItem {
	item := &poolItem{Prepared: p.Prepared, Min: p.Min, State: p.State}
	if p.Deleting {
		item.Status = "PendingDelete"
	}
	if p.Reuse {
		item.Reuse = &reuse{true}
	}
	return item
}

type groupItem struct {
	Name         string         `xml:"AutoScalingGroupName"`
	ARN          string         `xml:"AutoScalingGroupARN"`
	Template     *specification `xml:"LaunchTemplate"`
	Mixed        *mixedItem     `xml:"MixedInstancesPolicy"`
	Min          int            `xml:"MinSize"`
	Max          int            `xml:"MaxSize"`
	Desired      int            `xml:"DesiredCapacity"`
	Cooldown     int            `xml:"DefaultCooldown"`
	Zones        []string       `xml:"AvailabilityZones>member"`
	TargetGroups []string       `xml:"TargetGroupARNs>member"`
	HealthCheck  string         `xml:"HealthCheckType"`
	Grace        int            `xml:"HealthCheckGracePeriod"`
	Instances    []instanceItem `xml:"Instances>member"`
	Created      string         `xml:"CreatedTime"`
	Suspended    []suspension   `xml:"SuspendedProcesses>member"`
	Subnets      string         `xml:"VPCZoneIdentifier"`
	Status       string         `xml:"Status,omitempty"`
	Tags         []tagItem      `xml:"Tags>member"`
	Policies     []string       `xml:"TerminationPolicies>member"`
	Protect      bool           `xml:"NewInstancesProtectedFromScaleIn"`
	Role         string         `xml:"ServiceLinkedRoleARN"`
	Rebalance    bool           `xml:"CapacityRebalance"`
	Pool         *poolItem      `xml:"WarmPoolConfiguration"`
	PoolSize     int            `xml:"WarmPoolSize,omitempty"`
	Warmup       *int           `xml:"DefaultInstanceWarmup"`
}

// arn is that of the group.
func (s Service) arn(g *group) string {
	return "arn:" + s.Plan.Partition + ":autoscaling:" + s.Plan.Region + ":" + s.Plan.Account + ":autoScalingGroup:" +
		uuid.NewSHA1(uuid.NameSpaceURL, []byte(g.Name+g.Created.String())).String() + ":autoScalingGroupName/" + g.Name
}

func (s Service) item(g *group, instances map[string]fleet.Instance) groupItem {
	item := groupItem{
		Name: g.Name, ARN: s.arn(g), Min: g.Min, Max: g.Max, Desired: g.Desired, Cooldown: g.Cooldown, TargetGroups: g.TargetGroups,
		HealthCheck: g.HealthCheck, Grace: g.Grace, Created: g.Created.Format(timeFormat), Subnets: g.Subnets, Policies: g.Policies,
		Protect: g.Protect, Role: s.Plan.IAM("role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"),
		Rebalance: g.Rebalance, Warmup: g.Warmup,
	}
	if g.Template != nil {
		template := s.Groups.specification(*g.Template)
		item.Template = &template
	}
	if g.Mixed != nil {
		item.Mixed = s.Groups.policy(g.Mixed)
	}
	if g.Deleting {
		item.Status = "Delete in progress"
	}
	for _, id := range g.subnets() {
		if subnet, ok := s.Groups.Subnet(id); ok && !slices.Contains(item.Zones, subnet.Zone) {
			item.Zones = append(item.Zones, subnet.Zone)
		}
	}
	for _, m := range g.Members {
		if m.ID != "" && !m.warm() {
			item.Instances = append(item.Instances, m.item(instances[m.ID]))
		}
	}
	for _, process := range g.Suspended {
		item.Suspended = append(item.Suspended, suspension{process, "User suspended at " + s.Groups.Now().UTC().Format(time.RFC3339)})
	}
	for _, t := range g.Tags {
		item.Tags = append(item.Tags, t.item(g.Name))
	}
	if g.Pool != nil {
		item.Pool, item.PoolSize = g.Pool.item(), g.count((*member).warm)
	}
	return item
}

// filter is one of a Describe call's.
type filter struct {
	name   string
	values []string
}

func readFilters(p *query.Params, known ...string) (filters []filter) {
	for _, prefix := range p.Members("Filters") {
		f := filter{name: p.Required(prefix + ".Name"), values: p.List(prefix + ".Values")}
		if !slices.ContainsFunc(known, func(k string) bool { return k == f.name || strings.HasSuffix(k, ":") && strings.HasPrefix(f.name, k) }) {
			p.Fail(query.Invalid("Filter type %s is not correct. Allowed Filter types are: %s", f.name, strings.Join(known, " ")))
		}
		filters = append(filters, f)
	}
	return filters
}

// admits tells whether one of the group's tags fits the filter.
func (f filter) admits(g *group) bool {
	return slices.ContainsFunc(g.Tags, func(t tag) bool {
		switch f.name {
		case "tag-key":
			return slices.Contains(f.values, t.Key)
		case "tag-value":
			return slices.Contains(f.values, t.Value)
		}
		return "tag:"+t.Key == f.name && slices.Contains(f.values, t.Value)
	})
}

type describedGroups struct {
	Groups []groupItem `xml:"AutoScalingGroups>member"`
	Next   string      `xml:"NextToken,omitempty"`
}

func (s Service) describeGroups(p *query.Params) (any, error) {
	names, filters, part := p.List("AutoScalingGroupNames"), readFilters(p, "tag-key", "tag-value", "tag:"), readPage(p, 50, 100)
	p.OneOf("IncludeInstances", "true", "true")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedGroups
	err := s.Groups.change(func() error {
		instances := s.Groups.instances()
		var items []groupItem
		for _, g := range s.Groups.list {
			if len(names) > 0 && !slices.Contains(names, g.Name) || slices.ContainsFunc(filters, func(f filter) bool { return !f.admits(g) }) {
				continue
			}
			items = append(items, s.item(g, instances))
		}
		result.Groups, result.Next = cut(items, part)
		return nil
	})
	return result, err
}

type describedInstances struct {
	Instances []instanceItem `xml:"AutoScalingInstances>member"`
	Next      string         `xml:"NextToken,omitempty"`
}

func (s Service) describeInstances(p *query.Params) (any, error) {
	ids, part := p.List("InstanceIds"), readPage(p, 50, 50)
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedInstances
	err := s.Groups.change(func() error {
		instances := s.Groups.instances()
		var items []instanceItem
		for _, g := range s.Groups.list {
			for _, m := range g.Members {
				if m.ID != "" && (len(ids) == 0 || slices.Contains(ids, m.ID)) {
					item := m.item(instances[m.ID])
					item.Group, item.Health = g.Name, strings.ToUpper(item.Health)
					items = append(items, item)
				}
			}
		}
		result.Instances, result.Next = cut(items, part)
		return nil
	})
	return result, err
}
