package ec2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// ResourceTypes are the resource types of CloudFormation that the service has of its own
// inventory.
func (s Service) ResourceTypes() []resource.Type {
	return slices.Concat([]resource.Type{s.templateType()}, s.groupTypes(), s.storageTypes(), []resource.Type{s.interfaceType()})
}

// kind is what most handlers have in common: the ID is what Ref gives.
type kind struct{ s Service }

func (kind) Ref(id string) string { return id }

// resourceTag is a tag as templates write it.
type resourceTag struct{ Key, Value string }

// tagSpecification adds a TagSpecification with the stack's tags and the resource's own.
func tagSpecification(values url.Values, kind string, r resource.Request, own []resourceTag) {
	tags := resourceTags(r, own)
	if len(tags) == 0 {
		return
	}
	values.Set("TagSpecification.1.ResourceType", kind)
	for n, key := range slices.Sorted(maps.Keys(tags)) {
		values.Set(fmt.Sprintf("TagSpecification.1.Tag.%d.Key", n+1), key)
		values.Set(fmt.Sprintf("TagSpecification.1.Tag.%d.Value", n+1), tags[key])
	}
}

// resourceTags are the tags of a resource: the stack's and its own.
func resourceTags(r resource.Request, own []resourceTag) map[string]string {
	tags := maps.Clone(r.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	for _, t := range own {
		tags[t.Key] = t.Value
	}
	return tags
}

// retagResource makes a resource's tags those of the stack and its own, in the place of what
// it had of its own before.
func (s Service) retagResource(id string, r resource.Request, before, own []resourceTag) error {
	set := resourceTags(r, own)
	remove := map[string]*string{}
	for _, t := range before {
		if _, keep := set[t.Key]; !keep {
			remove[t.Key] = nil
		}
	}
	return gone(s.retag([]string{id}, set, remove))
}

// gone makes of EC2's refusals of an ID that it does not have resource.ErrNotFound.
func gone(err error) error {
	if missing(err) {
		return resource.ErrNotFound
	}
	return err
}

func missing(err error) bool {
	var told *wire.Error
	return errors.As(err, &told) && (strings.HasSuffix(told.Code, "NotFound") || strings.HasSuffix(told.Code, ".NotFoundException") || told.Code == "Gateway.NotAttached")
}

// removed is the end of a Delete: what is gone already is no error.
func removed(err error) error {
	if missing(err) {
		return nil
	}
	return err
}

func noAttribute(name string) error { return fmt.Errorf("no attribute %s", name) }

type templateProperties struct {
	LaunchTemplateName string
	VersionDescription string
	LaunchTemplateData templateData
	TagSpecifications  []struct {
		ResourceType string
		Tags         []resourceTag
	}
}

func (t templateProperties) tags() []resourceTag {
	var all []resourceTag
	for _, spec := range t.TagSpecifications {
		all = append(all, spec.Tags...)
	}
	return all
}

// values are the parameters of a request that makes a version.
func (t templateProperties) values() url.Values {
	values := spread("LaunchTemplateData", t.LaunchTemplateData)
	if t.VersionDescription != "" {
		values.Set("VersionDescription", t.VersionDescription)
	}
	return values
}

func (s Service) templateType() resource.Type {
	return resource.Type{
		Name: "AWS::EC2::LaunchTemplate", Properties: &templateProperties{},
		Required: []string{"LaunchTemplateData"}, CreateOnly: []string{"LaunchTemplateName"},
		Attributes: []string{"LaunchTemplateId", "DefaultVersionNumber", "LatestVersionNumber"},
		Handler:    templateHandler{kind{s}},
	}
}

type templateHandler struct{ kind }

// Create implements resource.Handler.
func (h templateHandler) Create(_ context.Context, r resource.Request) (string, error) {
	var properties templateProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return "", err
	}
	values := properties.values()
	values.Set("LaunchTemplateName", properties.LaunchTemplateName)
	if properties.LaunchTemplateName == "" {
		values.Set("LaunchTemplateName", r.Name)
	}
	values.Set("ClientToken", r.Token)
	tagSpecification(values, "launch-template", r, properties.tags())
	made, err := ask[templateResponse](h.s, "CreateLaunchTemplate", values)
	return made.Template.ID, err
}

// Update implements resource.Handler: changed data becomes a new version, the default stays.
func (h templateHandler) Update(_ context.Context, id string, r resource.Request) error {
	var before, properties templateProperties
	if err := errors.Join(resource.Decode(r.Before, &before), resource.Decode(r.Properties, &properties)); err != nil {
		return err
	}
	values := properties.values()
	if values.Encode() != before.values().Encode() {
		values.Set("LaunchTemplateId", id)
		values.Set("ClientToken", r.Token)
		if _, err := ask[versionResponse](h.s, "CreateLaunchTemplateVersion", values); err != nil {
			return gone(err)
		}
	}
	return h.s.retagResource(id, r, before.tags(), properties.tags())
}

// Delete implements resource.Handler.
func (h templateHandler) Delete(_ context.Context, id string, _ resource.Request) error {
	_, err := ask[templateResponse](h.s, "DeleteLaunchTemplate", url.Values{"LaunchTemplateId": {id}})
	return removed(err)
}

// Attribute implements resource.Handler.
func (h templateHandler) Attribute(_ context.Context, id, name string) (any, error) {
	found, _, err := h.s.templateVersion(id, "$Default")
	if err != nil {
		return nil, gone(err)
	}
	switch name {
	case "LaunchTemplateId":
		return found.ID, nil
	case "DefaultVersionNumber":
		return strconv.Itoa(found.Default), nil
	case "LatestVersionNumber":
		return strconv.Itoa(found.latest()), nil
	}
	return nil, noAttribute(name)
}
