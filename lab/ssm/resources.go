package ssm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

// tokenTag marks which request of a stack has made a parameter. It is none that a client can
// set or sees.
const tokenTag = "aws:ovenbird:token" //nolint:gosec // no credential

// ResourceTypes are what stacks can make: AWS::SSM::Parameter, of the service's own region.
func (s Service) ResourceTypes() []resource.Type {
	return []resource.Type{{
		Name: "AWS::SSM::Parameter", Properties: &properties{}, Required: []string{"Type", "Value"}, CreateOnly: []string{"Name"},
		Attributes: []string{"Type", "Value"}, Handler: handler{s},
	}}
}

type properties struct {
	Name, Type, Value, Description, DataType, Tier, AllowedPattern string
	Tags                                                           map[string]string
}

type handler struct{ Service }

// read decodes the properties of a parameter. An allowed pattern would have to be kept to by
// later calls of PutParameter, which the lab does not do.
func (h handler) read(r resource.Request) (properties, error) {
	var p properties
	if err := resource.Decode(r.Properties, &p); err != nil {
		return p, err
	}
	if p.AllowedPattern != "" {
		return p, invalid("The lab does not support the property AllowedPattern.")
	}
	return p, nil
}

// put makes a parameter with its tags, so that a killed daemon's next try knows it.
func (h handler) put(name string, r resource.Request, p properties, overwrite bool) error {
	made, err := h.parameter(h.Plan.Region, putRequest{
		Name: name, Value: p.Value, Type: p.Type, DataType: p.DataType, Description: p.Description, Tier: p.Tier, Overwrite: overwrite,
	})
	if err != nil {
		return err
	}
	made.Tags = map[string]string{tokenTag: r.Token}
	_, err = h.store(made, overwrite)
	return err
}

func (h handler) Create(ctx context.Context, r resource.Request) (string, error) {
	p, err := h.read(r)
	if err != nil {
		return "", err
	}
	name := p.Name
	if name == "" {
		name = r.Name
	}
	if was, ok := h.Parameters.Get(h.Plan.Region, name); !ok || was.Tags[tokenTag] != r.Token {
		if err := h.put(name, r, p, false); err != nil {
			return "", err
		}
	}
	if err := h.settled(ctx, name, p); err != nil {
		return name, err
	}
	return name, h.retag(name, r, p)
}

// settled waits until a parameter of an image is there, which it is only if the image is.
func (h handler) settled(ctx context.Context, name string, p properties) error {
	if p.DataType != imageType {
		return nil
	}
	tick := time.NewTicker(max(h.Parameters.Catalog.Delays.Settle/4, time.Millisecond))
	defer tick.Stop()
	for until := h.Parameters.Now().Add(2 * h.Parameters.Catalog.Delays.Settle); ; {
		found, ok := h.Parameters.Get(h.Plan.Region, name)
		switch {
		case ok && found.Value == p.Value:
			return nil
		case h.Parameters.Now().After(until):
			return invalid("Parameter %s: the image %s does not exist", name, p.Value)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// retag gives a parameter its own tags and the stack's, and takes off any other.
func (h handler) retag(name string, r resource.Request, p properties) error {
	was, ok := h.Parameters.Get(h.Plan.Region, name)
	if !ok {
		return resource.ErrNotFound
	}
	tags := map[string]string{tokenTag: r.Token}
	if token, made := was.Tags[tokenTag]; made {
		tags[tokenTag] = token
	}
	maps.Copy(tags, r.Tags)
	maps.Copy(tags, p.Tags)
	var gone []string
	for key := range was.Tags {
		if _, stays := tags[key]; !stays {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	return h.Parameters.tag(h.Plan.Region, name, tags, gone)
}

func (h handler) Update(ctx context.Context, id string, r resource.Request) error {
	p, err := h.read(r)
	if err != nil {
		return err
	}
	was, ok := h.Parameters.Get(h.Plan.Region, id)
	if !ok {
		return resource.ErrNotFound
	}
	if was.Value != p.Value || was.Description != p.Description {
		if err := h.put(id, r, p, true); err != nil {
			return err
		}
	}
	if err := h.settled(ctx, id, p); err != nil {
		return err
	}
	return h.retag(id, r, p)
}

func (h handler) Delete(_ context.Context, id string, _ resource.Request) error {
	if err := h.Parameters.remove(h.Plan.Region, id); !errors.Is(err, errNotFound) {
		return err
	}
	return nil
}

func (handler) Ref(id string) string { return id }

func (h handler) Attribute(_ context.Context, id, name string) (any, error) {
	p, ok := h.Parameters.Get(h.Plan.Region, id)
	switch {
	case !ok:
		return nil, resource.ErrNotFound
	case name == "Type":
		return p.Type, nil
	}
	return p.Value, nil
}

// visible are tags without the lab's own.
func visible(tags map[string]string) map[string]string {
	out := maps.Clone(tags)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, "aws:ovenbird:") })
	return out
}
