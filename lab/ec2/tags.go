package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// EC2's limits on tags.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// done is the answer of actions that answer nothing else.
type done struct {
	XMLName   xml.Name
	RequestID string `xml:"requestId"`
	Return    bool   `xml:"return"`
}

func doneWith(p *params, action string) done {
	name := xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: action + "Response"}
	return done{XMLName: name, RequestID: p.id, Return: true}
}

// tags reads the TagSpecifications for resources of the given types.
func (p *params) tags(types ...string) map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, spec := range p.members("TagSpecification") {
		kind := p.required(spec + ".ResourceType")
		if !slices.Contains(types, kind) {
			p.fail(invalid("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", kind))
		}
		if all[kind] == nil {
			all[kind] = map[string]string{}
		}
		p.tagList(spec+".Tag", all[kind])
	}
	return all
}

// tagList reads tags into a set.
func (p *params) tagList(name string, into map[string]string) {
	for _, tag := range p.members(name) {
		key, value := p.required(tag+".Key"), p.text(tag+".Value")
		_, twice := into[key]
		switch {
		case twice:
			p.fail(invalid("InvalidParameterValue", "Duplicate tag key '%s' specified.", key))
		case strings.HasPrefix(strings.ToLower(key), "aws:") && !p.internal:
			p.fail(invalid("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use"))
		case len([]rune(key)) > maxTagKey:
			p.fail(invalid("InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", maxTagKey))
		case len([]rune(value)) > maxTagValue:
			p.fail(invalid("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", maxTagValue))
		}
		into[key] = value
	}
	if fleet.UserTags(into) > maxTags {
		p.fail(tooManyTags())
	}
}

func tooManyTags() error {
	return invalid("TagLimitExceeded", "You have reached the maximum number of tags per resource, %d", maxTags)
}

// resources reads the IDs of what is to be tagged, all of which must exist.
func (s Service) resources(p *params) []string {
	ids := p.list("ResourceId")
	if len(ids) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter resourceIdSet"))
	}
	for _, id := range ids {
		switch {
		case imageID.MatchString(id):
			if _, ok := s.Catalog.Image(s.Plan.Region, id); !ok {
				p.fail(noImage(id))
			}
		case snapshotID.MatchString(id):
			if _, ok := s.Catalog.Snapshot(s.Plan.Region, id); !ok {
				p.fail(noSnapshot(id))
			}
		case s.Plan.Now().Tags(id) != nil:
		default:
			if ok, err := s.tagged(id); err != nil {
				p.fail(err)
			} else if !ok {
				p.fail(noResource(id))
			}
		}
	}
	return ids
}

// tagged tells whether something of the inventory or of the fleet has the ID.
func (s Service) tagged(id string) (ok bool, err error) {
	err = s.change(func(c *contents) error {
		ok = c.tags(id) != nil
		return nil
	})
	if ok || err != nil {
		return ok, err
	}
	return slices.ContainsFunc(s.Fleet.Instances(), func(i fleet.Instance) bool { return slices.Contains([]string{i.ID, i.VolumeID, i.InterfaceID}, id) }), nil
}

// tags are the tags of what has the ID; nil when nothing has.
func (c *contents) tags(id string) *map[string]string {
	for _, t := range c.Templates {
		if t.ID == id {
			return &t.Tags
		}
	}
	for _, g := range c.Groups {
		if g.ID == id {
			return &g.Tags
		}
	}
	for _, v := range c.Volumes {
		if v.ID == id {
			return &v.Tags
		}
	}
	for _, a := range c.Addresses {
		if a.ID == id {
			return &a.Tags
		}
	}
	for _, n := range c.Interfaces {
		if n.ID == id {
			return &n.Tags
		}
	}
	return nil
}

// noResource is the refusal of an ID that nothing has, in the words of its kind.
func noResource(id string) error {
	kind, _, _ := strings.Cut(id, "-")
	switch kind {
	case "i":
		return notFound([]string{id})
	case "lt":
		return invalid("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
	case "sg":
		return invalid("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
	case "vol":
		return invalid("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
	case "eni":
		return noInterface(id)
	case "eipalloc":
		return invalid("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", id)
	}
	return invalid("InvalidID", "The ID '%s' is not valid", id)
}

func (s Service) createTags(p *params) (any, error) {
	ids, set := s.resources(p), map[string]string{}
	p.tagList("Tag", set)
	if len(set) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter tagSet"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "CreateTags"), s.retag(ids, set, nil)
}

func (s Service) deleteTags(p *params) (any, error) {
	ids, remove := s.resources(p), map[string]*string{}
	for _, tag := range p.members("Tag") {
		key := p.required(tag + ".Key")
		remove[key] = nil
		if p.has(tag + ".Value") {
			value := p.text(tag + ".Value")
			remove[key] = &value
		}
	}
	if len(remove) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter tagSet"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteTags"), s.retag(ids, nil, remove)
}

func (s Service) retag(ids []string, set map[string]string, remove map[string]*string) error {
	for _, id := range ids {
		err := s.retagOne(id, set, remove)
		var missing *fleet.NotFoundError
		switch {
		case errors.Is(err, catalog.ErrTooManyTags), errors.Is(err, fleet.ErrTooManyTags):
			return tooManyTags()
		case errors.Is(err, catalog.ErrNotFound), errors.As(err, &missing):
			return noResource(id)
		case err != nil:
			return fmt.Errorf("tag %s: %w", id, err)
		}
	}
	return nil
}

// retagNetwork changes the tags of something in a VPC.
func (s Service) retagNetwork(id string, set map[string]string, remove map[string]*string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		of := r.Tags(id)
		if of == nil {
			return noResource(id)
		}
		changed := fleet.Retag(*of, set, remove)
		if fleet.UserTags(changed) > maxTags {
			return tooManyTags()
		}
		*of = changed
		return nil
	})
}

func (s Service) retagOne(id string, set map[string]string, remove map[string]*string) error {
	if imageID.MatchString(id) || snapshotID.MatchString(id) {
		return s.Catalog.Tag(s.Plan.Region, id, set, remove)
	}
	if s.Plan.Now().Tags(id) != nil {
		return s.retagNetwork(id, set, remove)
	}
	found := false
	err := s.change(func(c *contents) error {
		tags := c.tags(id)
		if tags == nil {
			return nil
		}
		found = true
		changed := fleet.Retag(*tags, set, remove)
		if fleet.UserTags(changed) > maxTags {
			return tooManyTags()
		}
		*tags = changed
		return nil
	})
	if found || err != nil {
		return err
	}
	return s.Fleet.Tag(id, set, remove)
}
