package ec2

import (
	"encoding/xml"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// gateways are the actions on gateways. The lab records them, and none leads out of it.
func gateways(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateInternetGateway":
		return Service.createInternetGateway
	case "DeleteInternetGateway":
		return Service.deleteInternetGateway
	case "AttachInternetGateway":
		return Service.attachInternetGateway
	case "DetachInternetGateway":
		return Service.detachInternetGateway
	case "DescribeInternetGateways":
		return Service.describeInternetGateways
	case "CreateEgressOnlyInternetGateway":
		return Service.createEgressGateway
	case "DeleteEgressOnlyInternetGateway":
		return Service.deleteEgressGateway
	case "DescribeEgressOnlyInternetGateways":
		return Service.describeEgressGateways
	case "CreateNatGateway":
		return Service.createNATGateway
	case "DeleteNatGateway":
		return Service.deleteNATGateway
	case "DescribeNatGateways":
		return Service.describeNATGateways
	}
	return nil
}

type gatewayAttachment struct {
	VPCID string `xml:"vpcId"`
	State string `xml:"state"`
}

type internetGatewayItem struct {
	ID          string              `xml:"internetGatewayId"`
	Owner       string              `xml:"ownerId"`
	Attachments []gatewayAttachment `xml:"attachmentSet>item"`
	Tags        []tag               `xml:"tagSet>item"`
}

func (s Service) internetGatewayItem(g vpc.InternetGateway) internetGatewayItem {
	item := internetGatewayItem{ID: g.ID, Owner: s.Plan.Account, Tags: tagItems(g.Tags)}
	if g.VPCID != "" {
		item.Attachments = []gatewayAttachment{{VPCID: g.VPCID, State: "available"}}
	}
	return item
}

func noInternetGateway(id string) *wire.Error {
	return invalid("InvalidInternetGatewayID.NotFound", "The internetGateway ID '%s' does not exist", id)
}

func (s Service) createInternetGateway(p *params) (any, error) {
	tags := p.tags("internet-gateway")["internet-gateway"]
	if err := p.done(); err != nil {
		return nil, err
	}
	g, err := s.addInternetGateway(tags, "")
	return respond(p, "CreateInternetGateway", struct {
		XMLName xml.Name `xml:"internetGateway"`
		internetGatewayItem
	}{internetGatewayItem: s.internetGatewayItem(g)}), err
}

func (s Service) addInternetGateway(tags map[string]string, token string) (made vpc.InternetGateway, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, earlier := range r.InternetGateways {
			if token != "" && earlier.Token == token {
				made = earlier
				return nil
			}
		}
		made = vpc.InternetGateway{ID: vpc.NewID("igw"), Tags: tags, Token: token}
		r.InternetGateways = append(r.InternetGateways, made)
		return nil
	})
	return made, err
}

func (s Service) deleteInternetGateway(p *params) (any, error) {
	id := p.required("InternetGatewayId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteInternetGateway"), s.dropInternetGateway(id)
}

func (s Service) dropInternetGateway(id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		g := r.InternetGateway(id)
		switch {
		case g == nil:
			return noInternetGateway(id)
		case g.VPCID != "":
			return depended("internetGateway", id)
		}
		r.InternetGateways = slices.DeleteFunc(r.InternetGateways, func(g vpc.InternetGateway) bool { return g.ID == id })
		return nil
	})
}

func (s Service) attachInternetGateway(p *params) (any, error) {
	id, vpcID := p.required("InternetGatewayId"), p.required("VpcId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "AttachInternetGateway"), s.attachGateway(id, vpcID)
}

func (s Service) attachGateway(id, vpcID string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		g := r.InternetGateway(id)
		switch {
		case g == nil:
			return noInternetGateway(id)
		case r.VPC(vpcID) == nil:
			return noVPC(vpcID)
		case g.VPCID != "":
			return invalid("Resource.AlreadyAssociated", "resource %s is already attached to network %s", id, g.VPCID)
		case slices.ContainsFunc(r.InternetGateways, func(g vpc.InternetGateway) bool { return g.VPCID == vpcID }):
			return invalid("InvalidParameterValue", "Network %s already has an internet gateway attached", vpcID)
		}
		g.VPCID = vpcID
		return nil
	})
}

func (s Service) detachInternetGateway(p *params) (any, error) {
	id, vpcID := p.required("InternetGatewayId"), p.required("VpcId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DetachInternetGateway"), s.detachGateway(id, vpcID)
}

func (s Service) detachGateway(id, vpcID string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		g := r.InternetGateway(id)
		switch {
		case g == nil:
			return noInternetGateway(id)
		case r.VPC(vpcID) == nil:
			return noVPC(vpcID)
		case g.VPCID != vpcID:
			return invalid("Gateway.NotAttached", "resource %s is not attached to network %s", id, vpcID)
		case slices.ContainsFunc(r.NATGateways, func(n vpc.NATGateway) bool { return n.VPCID == vpcID && !n.Private && n.Deleted.IsZero() }):
			return invalid("DependencyViolation", "Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", vpcID)
		}
		g.VPCID = ""
		return nil
	})
}

type internetGatewaysResponse struct {
	XMLName   xml.Name              `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInternetGatewaysResponse"`
	RequestID string                `xml:"requestId"`
	Gateways  []internetGatewayItem `xml:"internetGatewaySet>item"`
	NextToken string                `xml:"nextToken,omitempty"`
}

func (s Service) describeInternetGateways(p *params) (any, error) {
	page, next, err := listing[vpc.InternetGateway]{
		set: "internetGatewaySet", id: func(g vpc.InternetGateway) string { return g.ID }, missing: noInternetGateway,
		known: attributes[vpc.InternetGateway]{
			"internet-gateway-id": one(func(g vpc.InternetGateway) string { return g.ID }),
			"owner-id":            one(func(vpc.InternetGateway) string { return s.Plan.Account }),
			"attachment.vpc-id":   one(func(g vpc.InternetGateway) string { return g.VPCID }),
			"attachment.state": func(g vpc.InternetGateway) []string {
				if g.VPCID == "" {
					return nil
				}
				return []string{"available"}
			},
		},
		tags: func(g vpc.InternetGateway) map[string]string { return g.Tags },
	}.page(p, s.Plan.Now().InternetGateways, p.list("InternetGatewayId"))
	response := internetGatewaysResponse{RequestID: p.id, NextToken: next}
	for _, g := range page {
		response.Gateways = append(response.Gateways, s.internetGatewayItem(g))
	}
	return response, err
}

type egressGatewayItem struct {
	ID          string              `xml:"egressOnlyInternetGatewayId"`
	Attachments []gatewayAttachment `xml:"attachmentSet>item"`
	Tags        []tag               `xml:"tagSet>item"`
}

func egressItem(g vpc.EgressGateway) egressGatewayItem {
	return egressGatewayItem{ID: g.ID, Attachments: []gatewayAttachment{{VPCID: g.VPCID, State: "attached"}}, Tags: tagItems(g.Tags)}
}

func noEgressGateway(id string) *wire.Error {
	return invalid("InvalidGatewayID.NotFound", "The egress-only internet gateway ID '%s' does not exist", id)
}

func (s Service) createEgressGateway(p *params) (any, error) {
	vpcID, tags := p.required("VpcId"), p.tags("egress-only-internet-gateway")["egress-only-internet-gateway"]
	token := p.text("ClientToken")
	if err := p.done(); err != nil {
		return nil, err
	}
	g, err := s.addEgressGateway(vpcID, tags, token)
	return respond(p, "CreateEgressOnlyInternetGateway", struct {
		XMLName xml.Name `xml:"egressOnlyInternetGateway"`
		egressGatewayItem
	}{egressGatewayItem: egressItem(g)}), err
}

func (s Service) addEgressGateway(vpcID string, tags map[string]string, token string) (made vpc.EgressGateway, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, earlier := range r.EgressGateways {
			if token != "" && earlier.Token == token {
				made = earlier
				return nil
			}
		}
		if r.VPC(vpcID) == nil {
			return noVPC(vpcID)
		}
		made = vpc.EgressGateway{ID: vpc.NewID("eigw"), VPCID: vpcID, Tags: tags, Token: token}
		r.EgressGateways = append(r.EgressGateways, made)
		return nil
	})
	return made, err
}

type returnCode struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DeleteEgressOnlyInternetGatewayResponse"`
	RequestID string   `xml:"requestId"`
	Return    bool     `xml:"returnCode"`
}

func (s Service) deleteEgressGateway(p *params) (any, error) {
	id := p.required("EgressOnlyInternetGatewayId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return returnCode{RequestID: p.id, Return: true}, s.dropEgressGateway(id)
}

func (s Service) dropEgressGateway(id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		if r.EgressGateway(id) == nil {
			return noEgressGateway(id)
		}
		r.EgressGateways = slices.DeleteFunc(r.EgressGateways, func(g vpc.EgressGateway) bool { return g.ID == id })
		return nil
	})
}

type egressGatewaysResponse struct {
	XMLName   xml.Name            `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeEgressOnlyInternetGatewaysResponse"`
	RequestID string              `xml:"requestId"`
	Gateways  []egressGatewayItem `xml:"egressOnlyInternetGatewaySet>item"`
	NextToken string              `xml:"nextToken,omitempty"`
}

func (s Service) describeEgressGateways(p *params) (any, error) {
	page, next, err := listing[vpc.EgressGateway]{
		set: "egressOnlyInternetGatewayIdSet", id: func(g vpc.EgressGateway) string { return g.ID }, missing: noEgressGateway,
		known: attributes[vpc.EgressGateway]{}, // tags alone
		tags:  func(g vpc.EgressGateway) map[string]string { return g.Tags },
	}.page(p, s.Plan.Now().EgressGateways, p.list("EgressOnlyInternetGatewayId"))
	response := egressGatewaysResponse{RequestID: p.id, NextToken: next}
	for _, g := range page {
		response.Gateways = append(response.Gateways, egressItem(g))
	}
	return response, err
}
