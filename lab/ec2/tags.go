package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
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
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			p.fail(invalid("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use"))
		case len([]rune(key)) > maxTagKey:
			p.fail(invalid("InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", maxTagKey))
		case len([]rune(value)) > maxTagValue:
			p.fail(invalid("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", maxTagValue))
		}
		into[key] = value
	}
	if len(into) > maxTags {
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
		case s.Plan.Now().Tags(id) == nil:
			p.fail(invalid("InvalidID", "The ID '%s' is not valid: the lab tags images, snapshots, and what is in its VPCs", id))
		}
	}
	return ids
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
		if s.Plan.Now().Tags(id) != nil {
			if err := s.retagNetwork(id, set, remove); err != nil {
				return err
			}
			continue
		}
		err := s.Catalog.Tag(s.Plan.Region, id, set, remove)
		switch {
		case errors.Is(err, catalog.ErrTooManyTags):
			return tooManyTags()
		case errors.Is(err, catalog.ErrNotFound):
			return invalid("InvalidID", "The ID '%s' does not exist", id)
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
			return invalid("InvalidID", "The ID '%s' does not exist", id)
		}
		tags := maps.Clone(*of)
		if tags == nil {
			tags = map[string]string{}
		}
		for key, value := range remove {
			if had, ok := tags[key]; ok && (value == nil || *value == had) {
				delete(tags, key)
			}
		}
		maps.Copy(tags, set)
		if len(tags) > maxTags {
			return tooManyTags()
		}
		*of = tags
		return nil
	})
}
