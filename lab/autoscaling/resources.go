package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

type templateProperties struct {
	LaunchTemplateId   string //nolint:revive // CloudFormation's spelling
	LaunchTemplateName string
	Version            string
}

type mixedProperties struct {
	LaunchTemplate *struct {
		LaunchTemplateSpecification templateProperties
		Overrides                   []struct{ InstanceType string }
	}
	InstancesDistribution *struct {
		OnDemandAllocationStrategy, SpotAllocationStrategy string
		OnDemandBaseCapacity                               int
		OnDemandPercentageAboveBaseCapacity                int
		SpotInstancePools                                  int
	}
}

type hookProperties struct {
	LifecycleHookName, LifecycleTransition, DefaultResult, NotificationMetadata string
	HeartbeatTimeout                                                            int
}

type groupProperties struct {
	AutoScalingGroupName              string
	MinSize, MaxSize, DesiredCapacity string
	VPCZoneIdentifier                 []string
	LaunchTemplate                    *templateProperties
	MixedInstancesPolicy              *mixedProperties
	Cooldown                          string
	DefaultInstanceWarmup             int
	HealthCheckType                   string
	HealthCheckGracePeriod            int
	CapacityRebalance                 bool
	NewInstancesProtectedFromScaleIn  bool
	TerminationPolicies               []string
	TargetGroupARNs                   []string
	MaxInstanceLifetime               int
	LifecycleHookSpecificationList    []hookProperties
	Tags                              []struct {
		Key, Value        string
		PropagateAtLaunch bool
	}
}

type lifecycleHookProperties struct {
	AutoScalingGroupName                                                        string
	LifecycleHookName, LifecycleTransition, DefaultResult, NotificationMetadata string
	HeartbeatTimeout                                                            int
}

type poolProperties struct {
	AutoScalingGroupName              string
	MaxGroupPreparedCapacity, MinSize int
	PoolState                         string
	InstanceReusePolicy               *struct{ ReuseOnScaleIn bool }
}

// ResourceTypes are the types of CloudFormation's resources that are of Auto Scaling.
func (s Service) ResourceTypes() []resource.Type {
	return []resource.Type{
		{
			Name: "AWS::AutoScaling::AutoScalingGroup", Properties: &groupProperties{}, Required: []string{"MinSize", "MaxSize"},
			CreateOnly: []string{"AutoScalingGroupName"}, Handler: groupHandler{s},
		},
		{
			Name: "AWS::AutoScaling::LifecycleHook", Properties: &lifecycleHookProperties{}, Required: []string{"AutoScalingGroupName", "LifecycleTransition"},
			CreateOnly: []string{"AutoScalingGroupName", "LifecycleHookName"}, Handler: hookHandler{s},
		},
		{
			Name: "AWS::AutoScaling::WarmPool", Properties: &poolProperties{}, Required: []string{"AutoScalingGroupName"},
			CreateOnly: []string{"AutoScalingGroupName"}, Handler: poolHandler{s},
		},
	}
}

// params makes the parameters of a call of properties, whose names are mostly the same.
func params(properties map[string]any, except ...string) url.Values {
	values := url.Values{}
	for name, value := range properties {
		if !slices.Contains(except, name) {
			flatten(values, name, value)
		}
	}
	return values
}

func flatten(values url.Values, name string, value any) {
	switch v := value.(type) {
	case nil:
	case map[string]any:
		for key, member := range v {
			flatten(values, name+"."+key, member)
		}
	case []any:
		for i, member := range v {
			flatten(values, fmt.Sprintf("%s.member.%d", name, i+1), member)
		}
	case float64:
		values.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
	default:
		values.Set(name, fmt.Sprint(v))
	}
}

// call reads properties as a call's parameters.
func call(values url.Values) *query.Params { return query.Read(wire.Call{Params: values}) }

// missing tells whether the group, or what is of it, is not there.
func missing(err error) bool {
	var refused *wire.Error
	return errors.As(err, &refused) && (strings.Contains(refused.Message, "not found") || strings.HasPrefix(refused.Message, "No "))
}

// gone is an error, or that the resource does not exist.
func gone(err error) error {
	if missing(err) {
		return resource.ErrNotFound
	}
	return err
}

type hookHandler struct{ Service }

// put puts the hook and answers its name.
func (h hookHandler) put(r resource.Request) (string, error) {
	values := params(r.Properties, "AutoScalingGroupName")
	if values.Get("LifecycleHookName") == "" {
		values.Set("LifecycleHookName", r.Name)
	}
	p := call(values)
	made := readHook(p, "")
	if err := p.Done(); err != nil {
		return "", err
	}
	return made.Name, h.Groups.putHook(groupOf(r), made)
}

func groupOf(r resource.Request) string {
	name, _ := r.Properties["AutoScalingGroupName"].(string)
	return name
}

// Create implements resource.Handler.
func (h hookHandler) Create(_ context.Context, r resource.Request) (string, error) {
	name, err := h.put(r)
	if err != nil {
		return "", err
	}
	return name, nil
}

// Update implements resource.Handler.
func (h hookHandler) Update(_ context.Context, id string, r resource.Request) error {
	r.Name = id
	_, err := h.put(r)
	return gone(err)
}

// Delete implements resource.Handler.
func (h hookHandler) Delete(_ context.Context, id string, r resource.Request) error {
	if err := h.Groups.deleteHook(groupOf(r), id); !missing(err) {
		return err
	}
	return nil
}

// Ref implements resource.Handler.
func (hookHandler) Ref(id string) string { return id }

// Attribute implements resource.Handler.
func (hookHandler) Attribute(_ context.Context, _, name string) (any, error) {
	return nil, fmt.Errorf("a lifecycle hook has no attribute %s", name)
}

type poolHandler struct{ Service }

func (h poolHandler) put(r resource.Request) error {
	values := params(r.Properties)
	// What the template does not say is the default, not what it was.
	for name, otherwise := range map[string]string{"MinSize": "0", "MaxGroupPreparedCapacity": "-1", "PoolState": poolStopped, "InstanceReusePolicy.ReuseOnScaleIn": "false"} {
		if !values.Has(name) {
			values.Set(name, otherwise)
		}
	}
	_, err := h.putPool(call(values))
	return err
}

// Create implements resource.Handler.
func (h poolHandler) Create(_ context.Context, r resource.Request) (string, error) {
	if err := h.put(r); err != nil {
		return "", err
	}
	return groupOf(r), nil
}

// Update implements resource.Handler.
func (h poolHandler) Update(_ context.Context, _ string, r resource.Request) error {
	return gone(h.put(r))
}

// Delete implements resource.Handler. It waits until the pool's instances are gone.
func (h poolHandler) Delete(ctx context.Context, id string, _ resource.Request) error {
	err := h.Groups.removePool(id, true)
	if err == nil {
		err = h.Groups.await(ctx, id, func(g *group) (bool, error) { return g.Pool == nil, nil })
	}
	if missing(err) {
		return nil
	}
	return err
}

// Ref implements resource.Handler.
func (poolHandler) Ref(id string) string { return id }

// Attribute implements resource.Handler.
func (poolHandler) Attribute(_ context.Context, _, name string) (any, error) {
	return nil, fmt.Errorf("a warm pool has no attribute %s", name)
}
