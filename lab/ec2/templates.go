package ec2

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

type describeTemplatesResponse struct {
	XMLName   xml.Name       `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeLaunchTemplatesResponse"`
	RequestID string         `xml:"requestId"`
	Templates []templateItem `xml:"launchTemplates>item"`
	NextToken string         `xml:"nextToken,omitempty"`
}

func (s Service) describeLaunchTemplates(p *params) (any, error) {
	ids, names, filters := p.list("LaunchTemplateId"), p.list("LaunchTemplateName"), p.filters()
	limit, after := p.page(len(ids)+len(names) > 0, "launchTemplateIdSet")
	for _, id := range ids {
		if !templateID.MatchString(id) {
			p.fail(invalid("InvalidLaunchTemplateId.Malformed", `Invalid id: "%s" (expecting "lt-...")`, id))
		}
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []templateItem
	err := s.change(func(c *contents) error {
		for _, wanted := range slices.Concat(ids, names) {
			if _, err := c.template(wanted); err != nil {
				return err
			}
		}
		for _, t := range c.Templates {
			if len(ids)+len(names) == 0 || slices.Contains(ids, t.ID) || slices.Contains(names, t.Name) {
				all = append(all, t.item())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err = choose(all, filters, attributes[templateItem]{
		"launch-template-name": one(func(t templateItem) string { return t.Name }),
		"create-time":          one(func(t templateItem) string { return t.Created }),
	}, func(t templateItem) map[string]string { return tagMap(t.Tags) })
	response := describeTemplatesResponse{RequestID: p.id}
	response.Templates, response.NextToken = cut(all, limit, after, func(t templateItem) string { return t.Name })
	return response, err
}

type describeVersionsResponse struct {
	XMLName   xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeLaunchTemplateVersionsResponse"`
	RequestID string        `xml:"requestId"`
	Versions  []versionItem `xml:"launchTemplateVersionSet>item"`
	NextToken string        `xml:"nextToken,omitempty"`
}

// versionsAsked is which versions DescribeLaunchTemplateVersions is to tell of.
type versionsAsked struct {
	idOrName    string // empty: of every template
	versions    []string
	least, most int
}

func (p *params) versionsAsked() versionsAsked {
	asked := versionsAsked{versions: p.list("LaunchTemplateVersion")}
	asked.least, asked.most = p.integer("MinVersion", 0), p.integer("MaxVersion", math.MaxInt32)
	inRange := p.has("MinVersion") || p.has("MaxVersion")
	if p.has("LaunchTemplateId") || p.has("LaunchTemplateName") {
		asked.idOrName = p.templateName("")
		if inRange && len(asked.versions) > 0 {
			p.fail(invalid("InvalidParameterCombination", "The launch template versions cannot be specified together with a minimum or maximum version"))
		}
		return asked
	}
	symbolic := !slices.ContainsFunc(asked.versions, func(v string) bool { return v != "$Latest" && v != "$Default" })
	if inRange || len(asked.versions) == 0 || !symbolic {
		p.fail(invalid("MissingParameter", "Either a launch template ID or a launch template name must be specified in the request, or only the versions $Latest and $Default"))
	}
	return asked
}

func (asked versionsAsked) of(t *template) ([]versionItem, error) {
	var items []versionItem
	seen := map[int]bool{}
	for _, wanted := range asked.versions {
		v, err := t.version(wanted)
		if err != nil {
			return nil, err
		}
		if !seen[v.Number] {
			items = append(items, t.versionItem(*v))
		}
		seen[v.Number] = true
	}
	if len(asked.versions) > 0 {
		return items, nil
	}
	for _, v := range t.Versions {
		if v.Number >= asked.least && v.Number <= asked.most {
			items = append(items, t.versionItem(v))
		}
	}
	return items, nil
}

func (s Service) describeLaunchTemplateVersions(p *params) (any, error) {
	asked, filters, resolve := p.versionsAsked(), p.filters(), p.boolean("ResolveAlias")
	limit, after := p.page(false, "")
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []versionItem
	err := s.change(func(c *contents) error {
		list := c.Templates
		if asked.idOrName != "" {
			t, err := c.template(asked.idOrName)
			if err != nil {
				return err
			}
			list = []*template{t}
		}
		for _, t := range list {
			items, err := asked.of(t)
			if err != nil {
				return err
			}
			all = append(all, items...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for n := range all {
		if name, ok := strings.CutPrefix(all[n].Data.ImageID, aliasPrefix); ok && resolve {
			if all[n].Data.ImageID, ok = s.alias(name); !ok {
				return nil, noAlias(name)
			}
		}
	}
	all, err = choose(all, filters, attributes[versionItem]{
		"create-time":        one(func(v versionItem) string { return v.Created }),
		"image-id":           one(func(v versionItem) string { return v.Data.ImageID }),
		"instance-type":      one(func(v versionItem) string { return v.Data.InstanceType }),
		"is-default-version": one(func(v versionItem) string { return fmt.Sprint(v.Default) }),
	}, func(versionItem) map[string]string { return nil })
	response := describeVersionsResponse{RequestID: p.id}
	// The newest come first.
	response.Versions, response.NextToken = cut(all, limit, after, func(v versionItem) string { return fmt.Sprintf("%s/%09d", v.ID, maxNumber-v.Number) })
	return response, err
}

// maxNumber is more than any version's.
const maxNumber = 999_999_999
