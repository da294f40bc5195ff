package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxRules is how many rules a group may have in each direction.
const maxRules = 60

// anyProtocol is EC2's spelling of every protocol, at every port.
const anyProtocol = "-1"

// rule lets one kind of traffic to or from one peer, which is the only one of CIDR, CIDR6
// and Group that is not empty. From and To are nil where there are no ports.
type rule struct {
	ID          string `json:"id"`
	Egress      bool   `json:"egress,omitempty"`
	Protocol    string `json:"protocol"`
	From        *int   `json:"from,omitempty"`
	To          *int   `json:"to,omitempty"`
	CIDR        string `json:"cidr,omitempty"`
	CIDR6       string `json:"cidr6,omitempty"`
	Group       string `json:"group,omitempty"`
	Description string `json:"description,omitempty"`
	Token       string `json:"token,omitempty"` // of the lab's own request
}

// anywhere is the rule that a new group has.
func anywhere() rule { return rule{Egress: true, Protocol: anyProtocol, CIDR: "0.0.0.0/0"} }

// same tells whether two rules let the same traffic.
func (r rule) same(other rule) bool { return r.key() == other.key() }

func (r rule) key() string {
	r.ID, r.Description, r.Token = "", "", ""
	data, _ := json.Marshal(r) // strings and numbers always encode
	return string(data)
}

// numbered gives a rule of the group its ID.
func (g *securityGroup) numbered(r rule) rule {
	sum := sha256.Sum256([]byte(g.ID + r.key()))
	r.ID = "sgr-0" + hex.EncodeToString(sum[:8])
	return r
}

// String is the rule as EC2's refusals spell it.
func (r rule) String() string {
	protocol, ports := "ALL", ""
	if r.Protocol != anyProtocol {
		protocol = strings.ToUpper(r.Protocol)
	}
	if r.From != nil {
		ports = fmt.Sprintf(", from port: %d, to port: %d", *r.From, *r.To)
	}
	return fmt.Sprintf("peer: %s, %s%s, ALLOW", r.CIDR+r.CIDR6+r.Group, protocol, ports)
}

type permission struct {
	Protocol string      `xml:"ipProtocol"`
	From     *int        `xml:"fromPort"`
	To       *int        `xml:"toPort"`
	Groups   []groupPair `xml:"groups>item"`
	Ranges   []ipRange   `xml:"ipRanges>item"`
	Ranges6  []ipRange6  `xml:"ipv6Ranges>item"`
}

type groupPair struct {
	User        string `xml:"userId"`
	ID          string `xml:"groupId"`
	Description string `xml:"description,omitempty"`
}

type ipRange struct {
	CIDR        string `xml:"cidrIp"`
	Description string `xml:"description,omitempty"`
}

type ipRange6 struct {
	CIDR        string `xml:"cidrIpv6"`
	Description string `xml:"description,omitempty"`
}

// permissions are the rules of one direction, those for the same protocol and ports in one.
func (s Service) permissions(rules []rule, egress bool) []permission {
	var all []permission
	at := map[string]int{}
	for _, r := range rules {
		if r.Egress != egress {
			continue
		}
		traffic := rule{Protocol: r.Protocol, From: r.From, To: r.To}
		n, ok := at[traffic.key()]
		if !ok {
			n = len(all)
			at[traffic.key()] = n
			all = append(all, permission{Protocol: r.Protocol, From: r.From, To: r.To})
		}
		switch p := &all[n]; {
		case r.CIDR != "":
			p.Ranges = append(p.Ranges, ipRange{r.CIDR, r.Description})
		case r.CIDR6 != "":
			p.Ranges6 = append(p.Ranges6, ipRange6{r.CIDR6, r.Description})
		default:
			p.Groups = append(p.Groups, groupPair{s.Plan.Account, r.Group, r.Description})
		}
	}
	return all
}

// rules reads the rules that a request names: as permissions, or one by itself.
func (s Service) rules(p *params, egress bool) []rule {
	var rules []rule
	for _, member := range p.members("IpPermissions") {
		base := p.traffic(member+".", egress)
		before := len(rules)
		for _, peer := range p.members(member + ".IpRanges") {
			rules = append(rules, p.described(base.from(p.required(peer+".CidrIp"), "", ""), peer))
		}
		for _, peer := range p.members(member + ".Ipv6Ranges") {
			rules = append(rules, p.described(base.from("", p.required(peer+".CidrIpv6"), ""), peer))
		}
		for _, peer := range p.members(member + ".Groups") {
			if owner := p.text(peer + ".UserId"); owner != "" && owner != s.Plan.Account {
				p.fail(invalid("InvalidGroup.NotFound", "The lab has no groups of the account %s", owner))
			}
			p.text(peer + ".VpcId")
			rules = append(rules, p.described(base.from("", "", p.required(peer+".GroupId")), peer))
		}
		if len(rules) == before {
			p.fail(invalid("InvalidParameterValue", "The permission %s names no range and no group", member))
		}
	}
	if p.has("IpProtocol") || p.has("CidrIp") {
		rules = append(rules, p.traffic("", egress).from(p.required("CidrIp"), "", ""))
	}
	for n := range rules {
		p.checkPeer(&rules[n])
		for _, other := range rules[:n] {
			if other.same(rules[n]) {
				p.fail(invalid("InvalidParameterValue", "The same permission must not appear multiple times"))
			}
		}
	}
	return rules
}

func (r rule) from(cidr, cidr6, group string) rule {
	r.CIDR, r.CIDR6, r.Group = cidr, cidr6, group
	return r
}

func (p *params) described(r rule, peer string) rule {
	r.Description = p.text(peer + ".Description")
	if len(r.Description) > 255 || r.Description != "" && !groupDescription.MatchString(r.Description) {
		p.fail(invalid("InvalidParameterValue", "Invalid rule description. Rule descriptions may be up to 255 characters long and may contain a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{}!$*"))
	}
	return r
}

// traffic reads the protocol and the ports.
func (p *params) traffic(prefix string, egress bool) rule {
	r := rule{Egress: egress, Protocol: strings.ToLower(p.required(prefix + "IpProtocol"))}
	from, to := p.integer(prefix+"FromPort", -1), p.integer(prefix+"ToPort", -1)
	if named, ok := map[string]string{"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "all": anyProtocol}[r.Protocol]; ok {
		r.Protocol = named
	}
	switch r.Protocol {
	case "", anyProtocol:
		return r // EC2 drops the ports
	case "tcp", "udp":
		if from < 0 || to > 65535 || to < from {
			p.fail(invalid("InvalidParameterValue", "Invalid %s port range (%d, %d)", strings.ToUpper(r.Protocol), from, to))
		}
	case "icmp", "icmpv6":
		if from < -1 || from > 255 || to < -1 || to > 255 {
			p.fail(invalid("InvalidParameterValue", "ICMP type (%d) or code (%d) out of range", from, to))
		}
	default:
		if n, err := strconv.Atoi(r.Protocol); err != nil || n < 0 || n > 255 {
			p.fail(invalid("InvalidPermission.Malformed", "Unsupported IP protocol \"%s\"", r.Protocol))
		}
		return r
	}
	r.From, r.To = &from, &to
	return r
}

// checkPeer checks the peer's form, and writes a range as EC2 does: without host bits.
func (p *params) checkPeer(r *rule) {
	for _, cidr := range []*string{&r.CIDR, &r.CIDR6} {
		if *cidr == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(*cidr)
		if err != nil || prefix.Addr().Is4() != (cidr == &r.CIDR) {
			p.fail(invalid("InvalidParameterValue", "CIDR block %s is malformed", *cidr))
			continue
		}
		*cidr = prefix.Masked().String()
	}
}

type ruleItem struct {
	ID          string `xml:"securityGroupRuleId"`
	Group       string `xml:"groupId"`
	Owner       string `xml:"groupOwnerId"`
	Egress      bool   `xml:"isEgress"`
	Protocol    string `xml:"ipProtocol"`
	From        int    `xml:"fromPort"`
	To          int    `xml:"toPort"`
	CIDR        string `xml:"cidrIpv4,omitempty"`
	CIDR6       string `xml:"cidrIpv6,omitempty"`
	Peer        *peer  `xml:"referencedGroupInfo"`
	PeerID      string `xml:"referencedGroupId,omitempty"` // of a revoked rule
	Description string `xml:"description,omitempty"`
}

type peer struct {
	ID   string `xml:"groupId"`
	User string `xml:"userId"`
}

func (s Service) ruleItem(g *securityGroup, r rule) ruleItem {
	item := ruleItem{
		ID: r.ID, Group: g.ID, Owner: s.Plan.Account, Egress: r.Egress, Protocol: r.Protocol, From: -1, To: -1,
		CIDR: r.CIDR, CIDR6: r.CIDR6, Description: r.Description,
	}
	if r.From != nil {
		item.From, item.To = *r.From, *r.To
	}
	if r.Group != "" {
		item.Peer = &peer{r.Group, s.Plan.Account}
	}
	return item
}

type rulesResponse struct {
	XMLName   xml.Name
	RequestID string     `xml:"requestId"`
	Return    bool       `xml:"return"`
	Rules     []ruleItem `xml:"securityGroupRuleSet>item"`
	Revoked   []ruleItem `xml:"revokedSecurityGroupRuleSet>item"`
}

func (s Service) authorizeIngress(p *params) (any, error) {
	return s.authorize(p, "AuthorizeSecurityGroupIngress", false)
}

func (s Service) authorizeEgress(p *params) (any, error) {
	return s.authorize(p, "AuthorizeSecurityGroupEgress", true)
}

func (s Service) authorize(p *params, action string, egress bool) (any, error) {
	id, rules := p.required("GroupId"), s.rules(p, egress)
	if len(rules) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter ipPermissions"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := rulesResponse{XMLName: doneWith(p, action).XMLName, RequestID: p.id, Return: true}
	err := s.change(func(c *contents) error {
		g, err := c.group(id)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if err := c.permit(g, r); err != nil {
				return err
			}
			response.Rules = append(response.Rules, s.ruleItem(g, g.numbered(r)))
		}
		return nil
	})
	return response, err
}

// permit adds a rule to a group.
func (c *contents) permit(g *securityGroup, r rule) error {
	if r.Group != "" {
		other, err := c.group(r.Group)
		if err != nil {
			return err
		}
		if other.VPC != g.VPC {
			return invalid("InvalidGroup.NotFound", "You have specified two resources that belong to different networks.")
		}
	}
	count := 0
	for _, old := range g.Rules {
		if old.same(r) && r.Token != "" && r.Token == old.Token {
			return nil
		}
		if old.same(r) {
			return invalid("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r)
		}
		if old.Egress == r.Egress {
			count++
		}
	}
	if count == maxRules {
		return invalid("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	g.Rules = append(g.Rules, g.numbered(r))
	return nil
}

func (s Service) revokeIngress(p *params) (any, error) {
	return s.revoke(p, "RevokeSecurityGroupIngress", false)
}

func (s Service) revokeEgress(p *params) (any, error) {
	return s.revoke(p, "RevokeSecurityGroupEgress", true)
}

func (s Service) revoke(p *params, action string, egress bool) (any, error) {
	id, ids, rules := p.required("GroupId"), p.list("SecurityGroupRuleId"), s.rules(p, egress)
	if len(rules)+len(ids) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter ipPermissions"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := rulesResponse{XMLName: doneWith(p, action).XMLName, RequestID: p.id, Return: true}
	err := s.change(func(c *contents) error {
		g, err := c.group(id)
		if err != nil {
			return err
		}
		remove := func(match func(rule) bool, refusal error) error {
			at := slices.IndexFunc(g.Rules, func(r rule) bool { return r.Egress == egress && match(r) })
			if at < 0 {
				return refusal
			}
			item := s.ruleItem(g, g.Rules[at])
			item.Peer, item.PeerID = nil, g.Rules[at].Group
			response.Revoked = append(response.Revoked, item)
			g.Rules = slices.Delete(slices.Clone(g.Rules), at, at+1)
			return nil
		}
		for _, r := range rules {
			if err := remove(r.same, invalid("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")); err != nil {
				return err
			}
		}
		for _, ruleID := range ids {
			if err := remove(func(r rule) bool { return r.ID == ruleID }, noRule(ruleID)); err != nil {
				return err
			}
		}
		return nil
	})
	return response, err
}

func noRule(id string) error {
	return invalid("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
}
