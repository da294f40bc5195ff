package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

func readPolicy(r resource.Request) (resource.UpdatePolicy, error) {
	var p resource.UpdatePolicy
	if err := resource.Decode(r.UpdatePolicy, &p); err != nil {
		return p, fmt.Errorf("the UpdatePolicy: %w", err)
	}
	if p.AutoScalingReplacingUpdate != nil && p.AutoScalingReplacingUpdate.WillReplace {
		return p, errors.New("the lab does not support WillReplace of the UpdatePolicy AutoScalingReplacingUpdate")
	}
	if p.AutoScalingRollingUpdate != nil {
		return p, rollingUpdate(*p.AutoScalingRollingUpdate).check()
	}
	return p, nil
}

// groupHandler is AWS::AutoScaling::AutoScalingGroup. The stack's engine waits for the
// signals of a CreationPolicy; those of a rolling update the handler waits for itself.
type groupHandler struct{ Service }

// values are the parameters of CreateAutoScalingGroup that a template's properties amount to.
func (h groupHandler) values(name string, r resource.Request) url.Values {
	values := params(r.Properties, "VPCZoneIdentifier", "Cooldown", "Tags")
	values.Set("AutoScalingGroupName", name)
	if subnets, ok := r.Properties["VPCZoneIdentifier"].([]any); ok {
		var ids []string
		for _, id := range subnets {
			ids = append(ids, fmt.Sprint(id))
		}
		values.Set("VPCZoneIdentifier", strings.Join(ids, ","))
	}
	flatten(values, "DefaultCooldown", r.Properties["Cooldown"])
	tags, _ := r.Properties["Tags"].([]any)
	tags = slices.Clone(tags)
	for _, key := range slices.Sorted(maps.Keys(r.Tags)) {
		tags = append(tags, map[string]any{"Key": key, "Value": r.Tags[key], "PropagateAtLaunch": true})
	}
	flatten(values, "Tags", tags)
	return values
}

// Create implements resource.Handler.
func (h groupHandler) Create(_ context.Context, r resource.Request) (string, error) {
	if _, err := readPolicy(r); err != nil {
		return "", err
	}
	name := groupOf(r)
	if name == "" {
		name = r.Name
	}
	p := call(h.values(name, r))
	made := h.readGroup(p)
	if err := p.Done(); err != nil {
		return "", err
	}
	made.Token = r.Token
	if err := h.Groups.create(made); err != nil && !h.Groups.made(name, r.Token) {
		return "", err
	}
	return name, nil
}

// wanted is the group as the template has it, over what it is.
func (h groupHandler) wanted(id string, r resource.Request, policy resource.UpdatePolicy) func(found *group) (*group, error) {
	values := h.values(id, r)
	if keep := policy.AutoScalingScheduledAction; keep != nil && keep.IgnoreUnmodifiedGroupSizeProperties {
		for _, size := range []string{"MinSize", "MaxSize", "DesiredCapacity"} {
			if reflect.DeepEqual(r.Properties[size], r.Before[size]) {
				values.Del(size)
			}
		}
	}
	return func(found *group) (*group, error) {
		base := settings{Min: found.Min, Max: found.Max, Desired: found.Desired}
		if found.Roll != nil {
			base.Min, base.Desired = found.Roll.Min, found.Roll.Desired
		}
		base.defaults()
		p := call(values)
		p.Text("AutoScalingGroupName")
		next := &group{settings: h.readSettings(p, base), Tags: readTags(p)}
		for _, prefix := range p.Members("LifecycleHookSpecificationList") {
			next.Hooks = append(next.Hooks, readHook(p, prefix+"."))
		}
		next.TargetGroups = p.List("TargetGroupARNs")
		return next, p.Done()
	}
}

// Update implements resource.Handler. It is a rolling update when the UpdatePolicy says so
// and the launch template or the subnets change, or instances do not match the template
// (CloudFormation, "UpdatePolicy attribute").
func (h groupHandler) Update(ctx context.Context, id string, r resource.Request) error {
	policy, err := readPolicy(r)
	if err != nil {
		return err
	}
	wanted := h.wanted(id, r, policy)
	if policy.AutoScalingRollingUpdate != nil {
		u := update{handler: h, id: id, request: r, policy: rollingUpdate(*policy.AutoScalingRollingUpdate), wanted: wanted}
		return gone(u.run(ctx))
	}
	return gone(h.Groups.edit(id, func(found *group) error {
		next, err := wanted(found)
		if err != nil {
			return err
		}
		found.become(h.Groups, next, r)
		found.finishRoll()
		return nil
	}))
}

// become makes the group what the template wants. Hooks that are resources of their own stay.
func (g *group) become(of *Groups, next *group, r resource.Request) {
	g.set(of, next.settings)
	g.Tags = next.Tags
	listed, _ := r.Before["LifecycleHookSpecificationList"].([]any)
	g.Hooks = slices.DeleteFunc(g.Hooks, func(h hook) bool {
		return slices.ContainsFunc(listed, func(l any) bool {
			properties, _ := l.(map[string]any)
			return properties["LifecycleHookName"] == h.Name
		}) || slices.ContainsFunc(next.Hooks, func(n hook) bool { return n.Name == h.Name })
	})
	g.Hooks = append(g.Hooks, next.Hooks...)
}

// Delete implements resource.Handler. The group's sizes go to zero, and its instances by way
// of their hooks.
func (h groupHandler) Delete(ctx context.Context, id string, _ resource.Request) error {
	err := h.Groups.edit(id, func(found *group) error {
		if found.Max > 0 {
			next := found.settings
			next.Min, next.Max, next.Desired = 0, 0, 0
			found.set(h.Groups, next)
		}
		found.finishRoll()
		if found.Pool != nil {
			found.Pool.Deleting = true
		}
		return nil
	})
	if err == nil {
		err = h.Groups.await(ctx, id, func(found *group) (bool, error) {
			if len(found.Members) > 0 && found.suspended("Terminate") {
				return false, fmt.Errorf("the process Terminate of group %s is suspended", id)
			}
			for _, m := range found.Members {
				if m.Protect && m.State == inService {
					return false, fmt.Errorf("instance %s of group %s is protected from scale-in", m.ID, id)
				}
			}
			return len(found.Members) == 0, nil
		})
	}
	if err == nil {
		err = h.Groups.remove(id, false)
	}
	if missing(err) {
		return nil
	}
	return err
}

// Ref implements resource.Handler.
func (groupHandler) Ref(id string) string { return id }

// Attribute implements resource.Handler.
func (groupHandler) Attribute(_ context.Context, _, name string) (any, error) {
	return nil, fmt.Errorf("an Auto Scaling group has no attribute %s", name)
}
