package autoscaling

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	version   = "2011-01-01"
	namespace = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
)

// timeFormat is Auto Scaling's: milliseconds, UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Limits of the API reference.
const (
	maxName      = 255
	maxGroup     = 10000
	minHeartbeat = 30 // seconds
	maxHeartbeat = 7200
	heartbeat    = 3600 // unless it is said
	maxAttached  = 20   // instances at once
)

// Service is Auto Scaling in the plan's region. It implements wire.Service.
type Service struct {
	Plan   vpc.Plan
	Groups *Groups
}

// Name implements wire.Service.
func (Service) Name() string { return "autoscaling" }

// Knows implements wire.Service.
func (Service) Knows(name string) bool { return find(name).do != nil }

type operation struct {
	do func(Service, *query.Params) (any, error)
	// forRoles tells whether an instance's role may do it: what a node needs to see its own
	// lifecycle through.
	forRoles bool
}

func find(name string) operation {
	switch name {
	case "CreateAutoScalingGroup":
		return operation{do: Service.createGroup}
	case "DeleteAutoScalingGroup":
		return operation{do: Service.deleteGroup}
	case "DescribeAutoScalingGroups":
		return operation{do: Service.describeGroups}
	case "PutLifecycleHook":
		return operation{do: Service.putHook}
	case "AttachInstances":
		return operation{do: Service.attach}
	case "TerminateInstanceInAutoScalingGroup":
		return operation{do: Service.terminate}
	case "DescribeLifecycleHooks":
		return operation{Service.describeHooks, true}
	case "DescribeAutoScalingInstances":
		return operation{Service.describeInstances, true}
	case "CompleteLifecycleAction":
		return operation{Service.complete, true}
	case "RecordLifecycleActionHeartbeat":
		return operation{Service.heartbeat, true}
	}
	return operation{}
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	o := find(call.Action)
	switch {
	case o.do == nil:
		return nil, query.Unknown(version, call)
	case !o.forRoles && call.ByRole():
		return nil, query.Denied("autoscaling", call)
	case call.Region != s.Plan.Region:
		return nil, query.Invalid("The lab has Auto Scaling in %s only", s.Plan.Region)
	}
	result, err := o.do(s, query.Read(call))
	return query.Answer{Action: call.Action, Result: result}, err
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	query.Write(w, namespace, id, value, err)
}

// empty is the result of actions that answer nothing, of which some have a result element.
type empty struct{}

func (s Service) createGroup(p *query.Params) (any, error) {
	g := group{Name: p.Required("AutoScalingGroupName"), Subnets: p.Text("VPCZoneIdentifier"), Created: s.Groups.Now().UTC()}
	p.Required("MinSize")
	p.Required("MaxSize")
	least := p.Within("MinSize", 0, maxGroup, 0)
	g.Max = p.Within("MaxSize", 0, maxGroup, 0)
	desired := p.Within("DesiredCapacity", 0, maxGroup, least)
	switch {
	case len(g.Name) > maxName || strings.Contains(g.Name, ":"):
		p.Fail(query.Invalid("1 validation error detected: Value '%s' at 'autoScalingGroupName' failed to satisfy constraint", g.Name))
	case least > g.Max:
		p.Fail(query.Invalid("Max bound, %d, must be greater than or equal to min bound, %d", g.Max, least))
	case least > 0 || desired > 0:
		p.Fail(query.Invalid("The lab's groups do not launch instances: want a MinSize and a DesiredCapacity of 0; attach instances with AttachInstances"))
	case g.Subnets == "":
		p.Fail(query.Invalid("At least one Availability Zone or VPC Subnet is required."))
	}
	for id := range strings.SplitSeq(g.Subnets, ",") {
		if _, ok := s.Plan.Subnet(id); !ok && g.Subnets != "" {
			p.Fail(query.Invalid("The subnet ID '%s' does not exist", id))
		}
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.create(&g)
}

func (s Service) deleteGroup(p *query.Params) (any, error) {
	name, force := p.Required("AutoScalingGroupName"), p.OneOf("ForceDelete", "false", "true", "false") == "true"
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.remove(name, force)
}

type groupInstance struct {
	ID        string `xml:"InstanceId"`
	Type      string `xml:"InstanceType"`
	Zone      string `xml:"AvailabilityZone"`
	State     string `xml:"LifecycleState"`
	Health    string `xml:"HealthStatus"`
	Protected bool   `xml:"ProtectedFromScaleIn"`
}

type groupItem struct {
	Name        string          `xml:"AutoScalingGroupName"`
	ARN         string          `xml:"AutoScalingGroupARN"`
	Min         int             `xml:"MinSize"`
	Max         int             `xml:"MaxSize"`
	Desired     int             `xml:"DesiredCapacity"`
	Cooldown    int             `xml:"DefaultCooldown"`
	Zones       []string        `xml:"AvailabilityZones>member"`
	HealthCheck string          `xml:"HealthCheckType"`
	Grace       int             `xml:"HealthCheckGracePeriod"`
	Created     string          `xml:"CreatedTime"`
	Subnets     string          `xml:"VPCZoneIdentifier"`
	Instances   []groupInstance `xml:"Instances>member"`
}

type describedGroups struct {
	Groups []groupItem `xml:"AutoScalingGroups>member"`
}

func (s Service) describeGroups(p *query.Params) (any, error) {
	names := p.List("AutoScalingGroupNames")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedGroups
	err := s.Groups.change(func() error {
		instances := s.Groups.instances()
		for _, g := range s.Groups.list {
			if len(names) > 0 && !slices.Contains(names, g.Name) {
				continue
			}
			item := groupItem{
				Name: g.Name, Max: g.Max, Cooldown: 300, HealthCheck: "EC2", Created: g.Created.Format(timeFormat), Subnets: g.Subnets,
				ARN: "arn:" + s.Plan.Partition + ":autoscaling:" + s.Plan.Region + ":" + s.Plan.Account + ":autoScalingGroup:" +
					uuid.NewSHA1(uuid.NameSpaceURL, []byte(g.Name+g.Created.String())).String() + ":autoScalingGroupName/" + g.Name,
			}
			for id := range strings.SplitSeq(g.Subnets, ",") {
				if subnet, ok := s.Plan.Subnet(id); ok {
					item.Zones = append(item.Zones, subnet.Zone)
				}
			}
			for _, m := range g.Members {
				i := instances[m.ID]
				item.Instances = append(item.Instances, groupInstance{ID: m.ID, Type: i.Type, Zone: i.Zone, State: m.State, Health: "Healthy"})
				if m.target() != "Terminated" {
					item.Desired++
				}
			}
			result.Groups = append(result.Groups, item)
		}
		return nil
	})
	return result, err
}

type scalingInstance struct {
	ID        string `xml:"InstanceId"`
	Type      string `xml:"InstanceType"`
	Group     string `xml:"AutoScalingGroupName"`
	Zone      string `xml:"AvailabilityZone"`
	State     string `xml:"LifecycleState"`
	Health    string `xml:"HealthStatus"`
	Protected bool   `xml:"ProtectedFromScaleIn"`
}

type describedInstances struct {
	Instances []scalingInstance `xml:"AutoScalingInstances>member"`
}

func (s Service) describeInstances(p *query.Params) (any, error) {
	ids := p.List("InstanceIds")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedInstances
	err := s.Groups.change(func() error {
		instances := s.Groups.instances()
		for _, g := range s.Groups.list {
			for _, m := range g.Members {
				if i := instances[m.ID]; len(ids) == 0 || slices.Contains(ids, m.ID) {
					result.Instances = append(result.Instances, scalingInstance{ID: m.ID, Type: i.Type, Group: g.Name, Zone: i.Zone, State: m.State, Health: "HEALTHY"})
				}
			}
		}
		return nil
	})
	return result, err
}

func (s Service) putHook(p *query.Params) (any, error) {
	name := p.Required("AutoScalingGroupName")
	h := hook{
		Name:       p.Required("LifecycleHookName"),
		Transition: p.OneOf("LifecycleTransition", "", launching, terminating),
		Heartbeat:  p.Within("HeartbeatTimeout", minHeartbeat, maxHeartbeat, heartbeat),
		Default:    p.OneOf("DefaultResult", abandon, proceed, abandon),
		Metadata:   p.Text("NotificationMetadata"),
	}
	p.Required("LifecycleTransition")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.putHook(name, h)
}

type hookItem struct {
	Name          string `xml:"LifecycleHookName"`
	Group         string `xml:"AutoScalingGroupName"`
	Transition    string `xml:"LifecycleTransition"`
	Heartbeat     int    `xml:"HeartbeatTimeout"`
	GlobalTimeout int    `xml:"GlobalTimeout"`
	Default       string `xml:"DefaultResult"`
	Metadata      string `xml:"NotificationMetadata,omitempty"`
}

type describedHooks struct {
	Hooks []hookItem `xml:"LifecycleHooks>member"`
}

func (s Service) describeHooks(p *query.Params) (any, error) {
	name, names := p.Required("AutoScalingGroupName"), p.List("LifecycleHookNames")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedHooks
	err := s.Groups.change(func() error {
		g, err := s.Groups.find(name)
		if err != nil {
			return err
		}
		for _, h := range g.Hooks {
			if len(names) == 0 || slices.Contains(names, h.Name) {
				result.Hooks = append(result.Hooks, hookItem{
					Name: h.Name, Group: name, Transition: h.Transition, Heartbeat: h.Heartbeat,
					GlobalTimeout: int(h.limit() / time.Second), Default: h.Default, Metadata: h.Metadata,
				})
			}
		}
		return nil
	})
	return result, err
}

func (s Service) attach(p *query.Params) (any, error) {
	name, ids := p.Required("AutoScalingGroupName"), p.List("InstanceIds")
	switch {
	case len(ids) == 0:
		p.Fail(query.Invalid("At least one instance ID is required"))
	case len(ids) > maxAttached:
		p.Fail(query.Invalid("Only up to %d instances can be attached at once", maxAttached))
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	return nil, s.Groups.attach(name, ids)
}

type activity struct {
	ID          string `xml:"ActivityId"`
	Group       string `xml:"AutoScalingGroupName"`
	Description string `xml:"Description"`
	Cause       string `xml:"Cause"`
	StartTime   string `xml:"StartTime"`
	Status      string `xml:"StatusCode"`
	Progress    int    `xml:"Progress"`
}

type terminated struct {
	Activity activity `xml:"Activity"`
}

func (s Service) terminate(p *query.Params) (any, error) {
	id, smaller := p.Required("InstanceId"), p.Required("ShouldDecrementDesiredCapacity")
	if smaller != "" && smaller != "true" {
		p.Fail(query.Invalid("The lab's groups launch no replacement: want a ShouldDecrementDesiredCapacity of true"))
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	name, err := s.Groups.terminate(id)
	if err != nil {
		return nil, err
	}
	now := s.Groups.Now().UTC().Format(timeFormat)
	return terminated{activity{
		ID: uuid.NewString(), Group: name, Description: "Terminating EC2 instance: " + id, StartTime: now, Status: "InProgress",
		Cause: "At " + now + " instance " + id + " was taken out of service in response to a user request.",
	}}, nil
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
	return empty{}, s.Groups.act(group, name, id, token, func(m *member, a *action) { m.finish(a.Token, result) })
}

func (s Service) heartbeat(p *query.Params) (any, error) {
	group, name, id, token := held(p)
	if err := p.Done(); err != nil {
		return nil, err
	}
	return empty{}, s.Groups.act(group, name, id, token, func(_ *member, a *action) { a.beat(s.Groups.Now()) })
}
