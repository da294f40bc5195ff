package ec2

import (
	"encoding/xml"
	"fmt"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

// maxDeprecation is how far off a deprecation may be, in years.
const maxDeprecation = 10

func (s Service) enableImageDeprecation(p *params) (any, error) {
	id, at := p.imageID("ImageId"), p.timestamp("DeprecateAt").UTC().Round(time.Minute) // EC2 keeps minutes
	now := s.Catalog.Now()
	if p.err == nil && (at.Before(now) || at.After(now.AddDate(maxDeprecation, 0, 0))) {
		p.fail(invalid("InvalidParameterValue", "The value for DeprecateAt, %s, must be in the future and at most %d years off", at.Format(time.RFC3339), maxDeprecation))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "EnableImageDeprecation"), s.modify(id, func(i *catalog.Image) error {
		i.Deprecated = at
		return nil
	})
}

func (s Service) disableImageDeprecation(p *params) (any, error) {
	id := p.imageID("ImageId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DisableImageDeprecation"), s.modify(id, func(i *catalog.Image) error {
		i.Deprecated = time.Time{}
		return nil
	})
}

// States of the block of public access to images.
const (
	blocked   = "block-new-sharing"
	unblocked = "unblocked"
)

type blockResponse struct {
	XMLName   xml.Name
	RequestID string `xml:"requestId"`
	State     string `xml:"imageBlockPublicAccessState"`
	ManagedBy string `xml:"managedBy,omitempty"`
}

func blockAnswer(p *params, action, state string) blockResponse {
	return blockResponse{XMLName: doneWith(p, action).XMLName, RequestID: p.id, State: state}
}

func (s Service) getImageBlock(p *params) (any, error) {
	if err := p.done(); err != nil {
		return nil, err
	}
	answer := blockAnswer(p, "GetImageBlockPublicAccessState", blocked)
	answer.ManagedBy = "account"
	if s.Catalog.SharingAllowed(s.Plan.Region) {
		answer.State = unblocked
	}
	return answer, nil
}

func (s Service) enableImageBlock(p *params) (any, error) {
	p.required("ImageBlockPublicAccessState")
	p.oneOf("ImageBlockPublicAccessState", blocked)
	if err := p.done(); err != nil {
		return nil, err
	}
	return blockAnswer(p, "EnableImageBlockPublicAccess", blocked), s.Catalog.AllowSharing(s.Plan.Region, false)
}

func (s Service) disableImageBlock(p *params) (any, error) {
	if err := p.done(); err != nil {
		return nil, err
	}
	return blockAnswer(p, "DisableImageBlockPublicAccess", unblocked), s.Catalog.AllowSharing(s.Plan.Region, true)
}

type encryptionResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ GetEbsEncryptionByDefaultResponse"`
	RequestID string   `xml:"requestId"`
	ByDefault bool     `xml:"ebsEncryptionByDefault"`
	SSEType   string   `xml:"sseType"`
}

func (s Service) getEncryptionByDefault(p *params) (any, error) {
	if err := p.done(); err != nil {
		return nil, err
	}
	return encryptionResponse{RequestID: p.id, SSEType: "none"}, nil
}

type describeTagsResponse struct {
	XMLName   xml.Name  `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeTagsResponse"`
	RequestID string    `xml:"requestId"`
	Tags      []tagItem `xml:"tagSet>item"`
	NextToken string    `xml:"nextToken,omitempty"`
}

type tagItem struct {
	Resource string `xml:"resourceId"`
	Kind     string `xml:"resourceType"`
	Key      string `xml:"key"`
	Value    string `xml:"value"`
}

func (s Service) describeTags(p *params) (any, error) {
	filters := p.filters()
	limit, after := p.page(false, "")
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []tagItem
	collect := func(id, kind string, tags map[string]string) {
		for _, t := range tagItems(tags) {
			all = append(all, tagItem{id, kind, t.Key, t.Value})
		}
	}
	for _, snapshot := range s.Catalog.Snapshots(s.Plan.Region) {
		collect(snapshot.ID, "snapshot", snapshot.Tags)
	}
	for _, image := range s.Catalog.Images(s.Plan.Region) {
		collect(image.ID, "image", image.Tags)
	}
	for _, instance := range s.Fleet.Instances() {
		collect(instance.ID, "instance", instance.Tags)
		if instance.HasAddress() {
			collect(instance.VolumeID, "volume", instance.VolumeTags)
			collect(instance.InterfaceID, "network-interface", instance.InterfaceTags)
		}
	}
	err := s.change(func(c *contents) error {
		for _, t := range c.Templates {
			collect(t.ID, "launch-template", t.Tags)
		}
		for _, g := range c.Groups {
			collect(g.ID, "security-group", g.Tags)
		}
		for _, v := range c.Volumes {
			collect(v.ID, "volume", v.Tags)
		}
		for _, a := range c.Addresses {
			collect(a.ID, "elastic-ip", a.Tags)
		}
		for _, n := range c.Interfaces {
			collect(n.ID, "network-interface", n.Tags)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err = choose(all, filters, attributes[tagItem]{
		"key":           one(func(v tagItem) string { return v.Key }),
		"value":         one(func(v tagItem) string { return v.Value }),
		"resource-id":   one(func(v tagItem) string { return v.Resource }),
		"resource-type": one(func(v tagItem) string { return v.Kind }),
	}, func(v tagItem) map[string]string { return map[string]string{v.Key: v.Value} })
	response := describeTagsResponse{RequestID: p.id}
	response.Tags, response.NextToken = cut(all, limit, after, func(v tagItem) string { return fmt.Sprintf("%s/%s", v.Resource, v.Key) })
	return response, err
}
