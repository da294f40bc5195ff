package ec2

import (
	"encoding/xml"
	"slices"
)

type describeRegionsResponse struct {
	XMLName   xml.Name     `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeRegionsResponse"`
	RequestID string       `xml:"requestId"`
	Regions   []regionItem `xml:"regionInfo>item"`
}

type regionItem struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

func (s Service) describeRegions(p *params) (any, error) {
	names, filters := p.list("RegionName"), p.filters()
	p.boolean("AllRegions") // all of the lab's are enabled
	if err := p.done(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if !s.Catalog.HasRegion(name) {
			return nil, invalid("InvalidParameterValue", "Invalid region provided: %s", name)
		}
	}
	var all []regionItem
	for _, name := range s.Catalog.Regions {
		if len(names) == 0 || slices.Contains(names, name) {
			all = append(all, regionItem{Name: name, Endpoint: "ec2." + name + ".amazonaws.com", OptIn: "opt-in-not-required"})
		}
	}
	all, err := choose(all, filters, attributes[regionItem]{
		"region-name":   one(func(v regionItem) string { return v.Name }),
		"endpoint":      one(func(v regionItem) string { return v.Endpoint }),
		"opt-in-status": one(func(v regionItem) string { return v.OptIn }),
	}, func(regionItem) map[string]string { return nil })
	return describeRegionsResponse{RequestID: p.id, Regions: all}, err
}
