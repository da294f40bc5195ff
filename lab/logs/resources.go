package logs

import (
	"context"
	"errors"
	"maps"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

const resourceType = "AWS::Logs::LogGroup"

// ResourceTypes are what stacks can make: AWS::Logs::LogGroup, of the plan's region.
func (s Service) ResourceTypes() []resource.Type {
	return []resource.Type{{
		Name: resourceType, Properties: &properties{}, CreateOnly: []string{"LogGroupName"}, Attributes: []string{"Arn"}, Handler: handler{s},
	}}
}

type properties struct {
	LogGroupName, KmsKeyId, LogGroupClass *string //nolint:revive // CloudFormation's spelling
	RetentionInDays                       *int64
	DeletionProtectionEnabled             bool
	Tags                                  []struct{ Key, Value string }
}

type handler struct{ Service }

// read makes a group of the properties of one.
func (h handler) read(r resource.Request) (group, error) {
	var p properties
	if err := resource.Decode(r.Properties, &p); err != nil {
		return group{}, err
	}
	if p.LogGroupName == nil {
		p.LogGroupName = &r.Name
	}
	own := map[string]string{}
	for _, t := range p.Tags {
		own[t.Key] = t.Value
	}
	var c check
	g := group{
		Region: h.Plan.Region, Name: c.newGroup(p.LogGroupName), Key: c.text("kmsKeyId", p.KmsKeyId, 0, 256, anything),
		Protected: p.DeletionProtectionEnabled, Tags: map[string]string{}, Token: r.Token,
	}
	if p.RetentionInDays != nil {
		g.Retention = c.retention("retentionInDays", p.RetentionInDays)
	}
	if len(own) > 0 {
		c.tags(own)
	}
	if c.err == nil {
		c.err = standard(p.LogGroupClass)
	}
	maps.Copy(g.Tags, r.Tags)
	maps.Copy(g.Tags, own)
	return g, c.err
}

func (h handler) Create(_ context.Context, r resource.Request) (string, error) {
	g, err := h.read(r)
	if err != nil {
		return "", err
	}
	err = h.Store.create(g)
	switch {
	case errors.Is(err, errExists):
		return "", query.Refuse("AlreadyExists", "Resource of type '%s' with identifier '%s' already exists.", resourceType, g.Name)
	case err != nil:
		return "", err
	}
	return g.Name, nil
}

func (h handler) Update(_ context.Context, id string, r resource.Request) error {
	to, err := h.read(r)
	if err != nil {
		return err
	}
	err = h.Store.amend(h.Plan.Region, id, func(g *group) error {
		g.Key, g.Retention, g.Protected, g.Tags = to.Key, to.Retention, to.Protected, to.Tags
		return nil
	})
	if errors.Is(err, errNoGroup) {
		return resource.ErrNotFound
	}
	return err
}

func (h handler) Delete(_ context.Context, id string, _ resource.Request) error {
	if err := h.Store.remove(h.Plan.Region, id); !errors.Is(err, errNoGroup) {
		return worded(err)
	}
	return nil
}

func (handler) Ref(id string) string { return id }

func (h handler) Attribute(_ context.Context, id, _ string) (any, error) {
	if _, err := h.Store.get(h.Plan.Region, id); err != nil {
		return nil, resource.ErrNotFound
	}
	return h.arn(h.Plan.Region, id) + ":*", nil
}
