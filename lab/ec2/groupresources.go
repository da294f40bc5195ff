package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

// ingressProperties are a rule as a resource by itself, and, without GroupID, as a property
// of its group.
type ingressProperties struct {
	GroupID                    string `json:"GroupId"`
	IPProtocol                 string `json:"IpProtocol"`
	FromPort, ToPort           *int
	CIDRIP                     string `json:"CidrIp"`
	CIDRIPv6                   string `json:"CidrIpv6"`
	Description                string
	SourceSecurityGroupID      string `json:"SourceSecurityGroupId"`
	SourceSecurityGroupOwnerID string `json:"SourceSecurityGroupOwnerId"`
}

type egressProperties struct {
	GroupID                    string `json:"GroupId"`
	IPProtocol                 string `json:"IpProtocol"`
	FromPort, ToPort           *int
	CIDRIP                     string `json:"CidrIp"`
	CIDRIPv6                   string `json:"CidrIpv6"`
	Description                string
	DestinationSecurityGroupID string `json:"DestinationSecurityGroupId"`
}

// declaration is a rule as a template writes it, whichever its direction.
type declaration struct {
	egress                                    bool
	protocol, cidr, cidr6, group, description string
	from, to                                  *int
	owner                                     string
}

func (i ingressProperties) declaration() declaration {
	return declaration{
		protocol: i.IPProtocol, cidr: i.CIDRIP, cidr6: i.CIDRIPv6, group: i.SourceSecurityGroupID, description: i.Description,
		from: i.FromPort, to: i.ToPort, owner: i.SourceSecurityGroupOwnerID,
	}
}

func (e egressProperties) declaration() declaration {
	return declaration{
		egress: true, protocol: e.IPProtocol, cidr: e.CIDRIP, cidr6: e.CIDRIPv6, group: e.DestinationSecurityGroupID, description: e.Description,
		from: e.FromPort, to: e.ToPort,
	}
}

// rule checks the declaration as EC2 checks a request's permission.
func (s Service) rule(d declaration) (rule, error) {
	values := url.Values{}
	const permission = "IpPermissions.1."
	peers := 0
	for name, value := range map[string]string{"IpRanges.1.CidrIp": d.cidr, "Ipv6Ranges.1.CidrIpv6": d.cidr6, "Groups.1.GroupId": d.group} {
		if value == "" {
			continue
		}
		peers++
		values.Set(permission+name, value)
		if peer, _, _ := strings.Cut(name, "."); d.description != "" {
			values.Set(permission+peer+".1.Description", d.description)
		}
	}
	if peers != 1 {
		return rule{}, invalid("InvalidParameterCombination", "A rule of a security group wants exactly one of a CIDR block, an IPv6 CIDR block and a security group")
	}
	if d.owner != "" {
		values.Set(permission+"Groups.1.UserId", d.owner)
	}
	values.Set(permission+"IpProtocol", d.protocol)
	for name, port := range map[string]*int{"FromPort": d.from, "ToPort": d.to} {
		if port != nil {
			values.Set(permission+name, fmt.Sprint(*port))
		}
	}
	p := s.own("AuthorizeSecurityGroupIngress", values)
	rules := s.rules(p, d.egress)
	if err := p.done(); err != nil {
		return rule{}, err
	}
	return rules[0], nil
}

type groupProperties struct {
	GroupName, GroupDescription string
	VPCID                       string `json:"VpcId"`
	SecurityGroupIngress        []ingressProperties
	SecurityGroupEgress         []egressProperties
	Tags                        []resourceTag
}

// groupRules are the rules that a template gives a group. Without one for egress a group
// keeps the one that it has from the beginning.
func (s Service) groupRules(g groupProperties) ([]rule, error) {
	var declared []declaration
	for _, i := range g.SecurityGroupIngress {
		if i.GroupID != "" {
			return nil, errors.New("the lab does not support the property SecurityGroupIngress/GroupId")
		}
		declared = append(declared, i.declaration())
	}
	for _, e := range g.SecurityGroupEgress {
		if e.GroupID != "" {
			return nil, errors.New("the lab does not support the property SecurityGroupEgress/GroupId")
		}
		declared = append(declared, e.declaration())
	}
	var rules []rule
	for _, d := range declared {
		r, err := s.rule(d)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	if len(g.SecurityGroupEgress) == 0 {
		rules = append(rules, anywhere())
	}
	return rules, nil
}

// reruled takes the rules that a group had by its template to those that it has now. Rules
// of others stay.
func (s Service) reruled(id string, before, now []rule) error {
	in := func(list []rule, r rule) bool { return slices.ContainsFunc(list, r.same) }
	return s.change(func(c *contents) error {
		g, err := c.group(id)
		if err != nil {
			return gone(err)
		}
		g.Rules = slices.DeleteFunc(slices.Clone(g.Rules), func(r rule) bool { return in(before, r) && !in(now, r) })
		for _, r := range now {
			if at := slices.IndexFunc(g.Rules, r.same); at >= 0 {
				g.Rules[at].Description = r.Description
				continue
			}
			if err := c.permit(g, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s Service) groupTypes() []resource.Type {
	traffic := []string{"GroupId", "IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6"}
	return []resource.Type{
		{
			Name: "AWS::EC2::SecurityGroup", Properties: &groupProperties{},
			Required: []string{"GroupDescription"}, CreateOnly: []string{"GroupName", "GroupDescription", "VpcId"},
			Attributes: []string{"GroupId", "VpcId", "Id"}, Handler: groupHandler{kind{s}},
		},
		{
			Name: "AWS::EC2::SecurityGroupIngress", Properties: &ingressProperties{},
			Required: []string{"IpProtocol", "GroupId"}, CreateOnly: slices.Concat(traffic, []string{"SourceSecurityGroupId", "SourceSecurityGroupOwnerId"}),
			Attributes: []string{"Id"}, Handler: ruleHandler{kind{s}, readIngress},
		},
		{
			Name: "AWS::EC2::SecurityGroupEgress", Properties: &egressProperties{},
			Required: []string{"IpProtocol", "GroupId"}, CreateOnly: slices.Concat(traffic, []string{"DestinationSecurityGroupId"}),
			Attributes: []string{"Id"}, Handler: ruleHandler{kind{s}, readEgress},
		},
	}
}

type groupHandler struct{ kind }

// Create implements resource.Handler.
func (h groupHandler) Create(_ context.Context, r resource.Request) (string, error) {
	var properties groupProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return "", err
	}
	rules, err := h.s.groupRules(properties)
	if err != nil {
		return "", err
	}
	values := url.Values{
		"GroupName": {properties.GroupName}, "GroupDescription": {properties.GroupDescription}, "VpcId": {properties.VPCID}, "ClientToken": {r.Token},
	}
	if properties.GroupName == "" {
		values.Set("GroupName", r.Name)
	}
	tagSpecification(values, "security-group", r, properties.Tags)
	made, err := ask[createGroupResponse](h.s, "CreateSecurityGroup", values)
	if err != nil {
		return "", err
	}
	return made.ID, h.s.reruled(made.ID, []rule{anywhere()}, rules)
}

// Update implements resource.Handler.
func (h groupHandler) Update(_ context.Context, id string, r resource.Request) error {
	var before, properties groupProperties
	if err := errors.Join(resource.Decode(r.Before, &before), resource.Decode(r.Properties, &properties)); err != nil {
		return err
	}
	had, err1 := h.s.groupRules(before)
	has, err2 := h.s.groupRules(properties)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := h.s.reruled(id, had, has); err != nil {
		return err
	}
	return h.s.retagResource(id, r, before.Tags, properties.Tags)
}

// Delete implements resource.Handler.
func (h groupHandler) Delete(_ context.Context, id string, _ resource.Request) error {
	_, err := ask[deleteGroupResponse](h.s, "DeleteSecurityGroup", url.Values{"GroupId": {id}})
	return removed(err)
}

// Attribute implements resource.Handler.
func (h groupHandler) Attribute(_ context.Context, id, name string) (any, error) {
	network := ""
	err := h.s.change(func(c *contents) error {
		g, err := c.group(id)
		if err == nil {
			network = g.VPC
		}
		return gone(err)
	})
	switch {
	case err != nil:
		return nil, err
	case name == "GroupId" || name == "Id":
		return id, nil
	case name == "VpcId":
		return network, nil
	}
	return nil, noAttribute(name)
}

// ruleHandler has a rule of a group as a resource by itself.
type ruleHandler struct {
	kind
	read func(properties map[string]any) (group string, d declaration, err error)
}

func readIngress(properties map[string]any) (string, declaration, error) {
	var i ingressProperties
	err := resource.Decode(properties, &i)
	return i.GroupID, i.declaration(), err
}

func readEgress(properties map[string]any) (string, declaration, error) {
	var e egressProperties
	err := resource.Decode(properties, &e)
	return e.GroupID, e.declaration(), err
}

// Create implements resource.Handler.
func (h ruleHandler) Create(_ context.Context, r resource.Request) (string, error) {
	group, declared, err := h.read(r.Properties)
	if err != nil {
		return "", err
	}
	made, err := h.s.rule(declared)
	if err != nil {
		return "", err
	}
	made.Token = r.Token
	id := ""
	err = h.s.change(func(c *contents) error {
		g, err := c.group(group)
		if err != nil {
			return err
		}
		id = g.numbered(made).ID
		return c.permit(g, made)
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// rule finds the rule with the ID, and its group.
func (c *contents) rule(id string) (g *securityGroup, at int, err error) {
	for _, g := range c.Groups {
		if at := slices.IndexFunc(g.Rules, func(r rule) bool { return r.ID == id }); at >= 0 {
			return g, at, nil
		}
	}
	return nil, 0, noRule(id)
}

// Update implements resource.Handler: only the description changes without replacement.
func (h ruleHandler) Update(_ context.Context, id string, r resource.Request) error {
	_, declared, err := h.read(r.Properties)
	if err != nil {
		return err
	}
	now, err := h.s.rule(declared)
	if err != nil {
		return err
	}
	return h.s.change(func(c *contents) error {
		g, at, err := c.rule(id)
		if err == nil {
			g.Rules[at].Description = now.Description
		}
		return gone(err)
	})
}

// Delete implements resource.Handler.
func (h ruleHandler) Delete(_ context.Context, id string, _ resource.Request) error {
	return removed(h.s.change(func(c *contents) error {
		g, at, err := c.rule(id)
		if err == nil {
			g.Rules = slices.Delete(slices.Clone(g.Rules), at, at+1)
		}
		return err
	}))
}

// Attribute implements resource.Handler.
func (h ruleHandler) Attribute(_ context.Context, id, name string) (any, error) {
	if name != "Id" {
		return nil, noAttribute(name)
	}
	return id, nil
}
