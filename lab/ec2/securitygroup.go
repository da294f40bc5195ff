package ec2

import (
	"encoding/xml"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

var (
	groupID          = regexp.MustCompile(`^sg-[0-9a-f]{8,17}$`)
	groupName        = regexp.MustCompile(`^[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}$`)
	groupDescription = groupName
)

// defaultGroup is the name of the group that each VPC has from the beginning.
const defaultGroup = "default"

// securityGroup is a security group. Its rules are held to what EC2 takes and are shown, but
// not enforced: every packet between instances of the lab passes.
type securityGroup struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	VPC         string            `json:"vpc"`
	Rules       []rule            `json:"rules,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Token       string            `json:"token,omitempty"` // of the lab's own request
}

// keepDefaultGroups gives each VPC its default group, and drops the groups of VPCs that are
// gone: EC2 deletes a VPC only when nothing but its default group is left.
func (c *contents) keepDefaultGroups(vpcs []vpc.VPC) {
	c.Groups = slices.DeleteFunc(c.Groups, func(g *securityGroup) bool {
		return !slices.ContainsFunc(vpcs, func(v vpc.VPC) bool { return v.ID == g.VPC })
	})
	for _, v := range vpcs {
		if slices.ContainsFunc(c.Groups, func(g *securityGroup) bool { return g.ID == v.DefaultGroup() }) {
			continue
		}
		g := &securityGroup{ID: v.DefaultGroup(), Name: defaultGroup, Description: "default VPC security group", VPC: v.ID}
		g.Rules = []rule{g.numbered(rule{Protocol: anyProtocol, Group: g.ID}), g.numbered(anywhere())}
		c.Groups = append(c.Groups, g)
	}
}

func (c *contents) group(id string) (*securityGroup, error) {
	if !groupID.MatchString(id) {
		return nil, invalid("InvalidGroupId.Malformed", `Invalid id: "%s" (expecting "sg-...")`, id)
	}
	for _, g := range c.Groups {
		if g.ID == id {
			return g, nil
		}
	}
	return nil, invalid("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
}

type createGroupResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CreateSecurityGroupResponse"`
	RequestID string   `xml:"requestId"`
	Return    bool     `xml:"return"`
	ID        string   `xml:"groupId"`
	Tags      []tag    `xml:"tagSet>item"`
	ARN       string   `xml:"securityGroupArn"`
}

func (s Service) createSecurityGroup(p *params) (any, error) {
	made := &securityGroup{
		ID: newID("sg-0"), Name: p.required("GroupName"), Description: p.required("GroupDescription"), VPC: p.text("VpcId"),
		Tags: p.tags("security-group")["security-group"],
	}
	if p.internal {
		made.Token = p.text("ClientToken")
	}
	switch {
	case p.err != nil:
	case made.VPC == "":
		p.fail(invalid("VPCIdNotSpecified", "No default VPC for this user"))
	case s.Plan.Now().VPC(made.VPC) == nil:
		p.fail(invalid("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", made.VPC))
	case strings.HasPrefix(made.Name, "sg-"):
		p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter GroupName is invalid. Group names may not be in the format sg-*.", made.Name))
	case !groupName.MatchString(made.Name):
		p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter GroupName is invalid. Character sets beyond ASCII are not supported, and 255 characters are the most.", made.Name))
	case !groupDescription.MatchString(made.Description):
		p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter GroupDescription is invalid. Character sets beyond ASCII are not supported, and 255 characters are the most.", made.Description))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	made.Rules = []rule{made.numbered(anywhere())}
	response := createGroupResponse{RequestID: p.id, Return: true, ID: made.ID, Tags: tagItems(made.Tags), ARN: s.groupARN(made.ID)}
	err := s.change(func(c *contents) error {
		for _, g := range c.Groups {
			switch {
			case made.Token != "" && made.Token == g.Token:
				response.ID, response.ARN = g.ID, s.groupARN(g.ID)
				return nil
			case g.VPC == made.VPC && g.Name == made.Name:
				return invalid("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", g.Name, g.VPC)
			}
		}
		c.Groups = append(c.Groups, made)
		return nil
	})
	return response, err
}

func (s Service) groupARN(id string) string {
	return fmt.Sprintf("arn:%s:ec2:%s:%s:security-group/%s", s.Plan.Partition, s.Plan.Region, s.Plan.Account, id)
}

type deleteGroupResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DeleteSecurityGroupResponse"`
	RequestID string   `xml:"requestId"`
	Return    bool     `xml:"return"`
	ID        string   `xml:"groupId"`
}

func (s Service) deleteSecurityGroup(p *params) (any, error) {
	id := p.required("GroupId")
	if err := p.done(); err != nil {
		return nil, err
	}
	err := s.change(func(c *contents) error {
		g, err := c.group(id)
		switch {
		case err != nil:
			return err
		case g.Name == defaultGroup:
			return invalid("CannotDelete", "the specified group: \"%s\" name: \"%s\" cannot be deleted by a user", id, g.Name)
		case s.groupInUse(c, id):
			return invalid("DependencyViolation", "resource %s has a dependent object", id)
		}
		c.Groups = slices.DeleteFunc(c.Groups, func(other *securityGroup) bool { return other == g })
		return nil
	})
	return deleteGroupResponse{RequestID: p.id, Return: true, ID: id}, err
}

// groupInUse tells whether an interface is in the group, or a rule of another group names it.
func (s Service) groupInUse(c *contents, id string) bool {
	member := func(g fleet.Group) bool { return g.ID == id }
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() && slices.ContainsFunc(i.Groups, member) {
			return true
		}
	}
	if slices.ContainsFunc(c.Interfaces, func(n *elasticInterface) bool { return slices.ContainsFunc(n.Groups, member) }) {
		return true
	}
	return slices.ContainsFunc(c.Groups, func(g *securityGroup) bool {
		return g.ID != id && slices.ContainsFunc(g.Rules, func(r rule) bool { return r.Group == id })
	})
}

// groupsOf reads the security groups of what is made in a subnet: those of the request, or
// the VPC's default one.
func (s Service) groupsOf(p *params, subnet vpc.Subnet) []fleet.Group {
	ids := p.list("SecurityGroupId")
	if subnet.ID == "" {
		return nil
	}
	var groups []fleet.Group
	err := s.change(func(c *contents) (err error) {
		groups, err = c.groupsIn(subnet, ids)
		return err
	})
	if err != nil {
		p.fail(err)
	}
	return groups
}

// groupsIn are the security groups with the IDs, which must be of the subnet's VPC, or that VPC's
// default one when there are no IDs.
func (c *contents) groupsIn(subnet vpc.Subnet, ids []string) ([]fleet.Group, error) {
	var groups []fleet.Group
	for _, g := range c.Groups {
		if len(ids) == 0 && g.VPC == subnet.VPCID && g.Name == defaultGroup {
			groups = append(groups, fleet.Group{ID: g.ID, Name: g.Name})
		}
	}
	for _, id := range ids {
		g, err := c.group(id)
		if err != nil {
			return nil, err
		}
		if g.VPC != subnet.VPCID {
			return nil, invalid("InvalidParameter", "Security group %s and subnet %s belong to different networks.", id, subnet.ID)
		}
		groups = append(groups, fleet.Group{ID: g.ID, Name: g.Name})
	}
	return groups, nil
}

type groupItem struct {
	Owner       string       `xml:"ownerId"`
	ID          string       `xml:"groupId"`
	Name        string       `xml:"groupName"`
	Description string       `xml:"groupDescription"`
	VPC         string       `xml:"vpcId"`
	Ingress     []permission `xml:"ipPermissions>item"`
	Egress      []permission `xml:"ipPermissionsEgress>item"`
	Tags        []tag        `xml:"tagSet>item"`
	ARN         string       `xml:"securityGroupArn"`
	rules       []rule
}

type describeGroupsResponse struct {
	XMLName   xml.Name    `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSecurityGroupsResponse"`
	RequestID string      `xml:"requestId"`
	Groups    []groupItem `xml:"securityGroupInfo>item"`
	NextToken string      `xml:"nextToken,omitempty"`
}

func (s Service) describeSecurityGroups(p *params) (any, error) {
	ids, filters := p.list("GroupId"), p.filters()
	limit, after := p.page(len(ids) > 0, "groupIdSet")
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []groupItem
	err := s.change(func(c *contents) error {
		for _, id := range ids {
			if _, err := c.group(id); err != nil {
				return err
			}
		}
		for _, g := range c.Groups {
			if len(ids) == 0 || slices.Contains(ids, g.ID) {
				all = append(all, s.groupItem(g))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err = choose(all, filters, groupAttributes(), func(g groupItem) map[string]string { return tagMap(g.Tags) })
	response := describeGroupsResponse{RequestID: p.id}
	response.Groups, response.NextToken = cut(all, limit, after, func(g groupItem) string { return g.ID })
	return response, err
}

func (s Service) groupItem(g *securityGroup) groupItem {
	return groupItem{
		Owner: s.Plan.Account, ID: g.ID, Name: g.Name, Description: g.Description, VPC: g.VPC, ARN: s.groupARN(g.ID), Tags: tagItems(maps.Clone(g.Tags)),
		Ingress: s.permissions(g.Rules, false), Egress: s.permissions(g.Rules, true), rules: slices.Clone(g.Rules),
	}
}

func groupAttributes() attributes[groupItem] {
	all := attributes[groupItem]{
		"group-id":    one(func(g groupItem) string { return g.ID }),
		"group-name":  one(func(g groupItem) string { return g.Name }),
		"description": one(func(g groupItem) string { return g.Description }),
		"vpc-id":      one(func(g groupItem) string { return g.VPC }),
		"owner-id":    one(func(g groupItem) string { return g.Owner }),
	}
	for name, value := range map[string]func(rule) string{
		"cidr": func(r rule) string { return r.CIDR }, "ipv6-cidr": func(r rule) string { return r.CIDR6 },
		"group-id": func(r rule) string { return r.Group }, "protocol": func(r rule) string { return r.Protocol },
	} {
		for prefix, egress := range map[string]bool{"ip-permission.": false, "egress.ip-permission.": true} {
			all[prefix+name] = func(g groupItem) []string {
				var values []string
				for _, r := range g.rules {
					if v := value(r); r.Egress == egress && v != "" {
						values = append(values, v)
					}
				}
				return values
			}
		}
	}
	return all
}

type describeRulesResponse struct {
	XMLName   xml.Name   `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSecurityGroupRulesResponse"`
	RequestID string     `xml:"requestId"`
	Rules     []ruleItem `xml:"securityGroupRuleSet>item"`
	NextToken string     `xml:"nextToken,omitempty"`
}

func (s Service) describeSecurityGroupRules(p *params) (any, error) {
	ids, filters := p.list("SecurityGroupRuleId"), p.filters()
	limit, after := p.page(len(ids) > 0, "securityGroupRuleIdSet")
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []ruleItem
	missing := slices.Clone(ids)
	err := s.change(func(c *contents) error {
		for _, g := range c.Groups {
			for _, r := range g.Rules {
				if len(ids) == 0 || slices.Contains(ids, r.ID) {
					all = append(all, s.ruleItem(g, r))
				}
				missing = slices.DeleteFunc(missing, func(id string) bool { return id == r.ID })
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, noRule(missing[0])
	}
	all, err = choose(all, filters, attributes[ruleItem]{
		"group-id":               one(func(r ruleItem) string { return r.Group }),
		"security-group-rule-id": one(func(r ruleItem) string { return r.ID }),
	}, func(ruleItem) map[string]string { return nil })
	response := describeRulesResponse{RequestID: p.id}
	response.Rules, response.NextToken = cut(all, limit, after, func(r ruleItem) string { return r.ID })
	return response, err
}
