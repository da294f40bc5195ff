package imds

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
)

// tree is what an instance sees: a value by path, below the version. Directories are the
// paths' own parts.
type tree map[string]string

// find looks up a leaf, or lists a directory as EC2 does: one name a line, directories
// with a slash. A leaf's path may not end in a slash.
func (t tree) find(path string) (string, bool) {
	if value, ok := t[path]; ok {
		return value, true
	}
	prefix := strings.TrimSuffix(path, "/")
	if prefix != "" {
		prefix += "/"
	}
	names := map[string]bool{}
	for leaf := range t {
		rest, ok := strings.CutPrefix(leaf, prefix)
		if !ok || rest == "" {
			continue
		}
		name, _, directory := strings.Cut(rest, "/")
		if directory {
			name += "/"
		}
		names[name] = true
	}
	if len(names) == 0 {
		return "", false
	}
	list := slices.Sorted(maps.Keys(names))
	for i, name := range list {
		// The top level lists its directories without the slash.
		if prefix == "" {
			list[i] = strings.TrimSuffix(name, "/")
		}
	}
	return strings.Join(list, "\n"), true
}

func (s Service) tree(i fleet.Instance) tree {
	subnet, _ := s.Plan.Subnet(i.SubnetID)
	name := s.Plan.PrivateDNSName(i.Address)
	t := tree{
		"dynamic/instance-identity/document": s.document(i),
	}
	meta := func(path, value string) { t["meta-data/"+path] = value }
	meta("ami-id", i.ImageID)
	meta("ami-launch-index", strconv.Itoa(i.LaunchIndex))
	meta("ami-manifest-path", "(unknown)")
	meta("block-device-mapping/ami", "/dev/xvda")
	meta("block-device-mapping/root", "/dev/xvda")
	meta("hostname", name)
	meta("instance-action", "none")
	meta("instance-id", i.ID)
	meta("instance-life-cycle", lifeCycle(i))
	meta("instance-type", i.Type)
	meta("local-hostname", name)
	meta("local-ipv4", i.Address.String())
	meta("mac", i.MAC)
	meta("placement/availability-zone", i.Zone)
	meta("placement/availability-zone-id", subnet.ZoneID)
	meta("placement/region", s.Plan.Region)
	meta("profile", "default-hvm")
	meta("reservation-id", i.ReservationID)
	meta("services/domain", "amazonaws.com")
	meta("services/partition", s.Plan.Partition)
	for _, n := range append([]fleet.Interface{first(i)}, i.Interfaces...) {
		s.networkInterface(n, meta)
	}
	if names := groupNames(i.Groups); names != "" {
		meta("security-groups", names)
	}
	s.notices(i, meta)
	if role := s.role(i); role != "" {
		meta("iam/info", s.profile(i))
		meta("iam/security-credentials/"+role, s.credentials(i))
	}
	if i.MetadataTags {
		for key, value := range i.Tags {
			meta("tags/instance/"+key, value)
		}
	}
	if len(i.UserData) > 0 {
		t["user-data"] = "" // listed here, served by lookUp
	}
	return t
}

// first is an instance's first network interface.
func first(i fleet.Instance) fleet.Interface {
	return fleet.Interface{ID: i.InterfaceID, MAC: i.MAC, Address: i.Address, SubnetID: i.SubnetID, Groups: i.Groups}
}

// networkInterface is what is told of one of an instance's network interfaces.
func (s Service) networkInterface(n fleet.Interface, meta func(path, value string)) {
	subnet, _ := s.Plan.Subnet(n.SubnetID)
	network := s.Plan.VPCOf(n.SubnetID)
	for leaf, value := range map[string]string{
		"device-number":          strconv.Itoa(n.Index),
		"interface-id":           n.ID,
		"local-hostname":         s.Plan.PrivateDNSName(n.Address),
		"local-ipv4s":            n.Address.String(),
		"mac":                    n.MAC,
		"network-card":           "0",
		"owner-id":               s.Plan.Account,
		"subnet-id":              n.SubnetID,
		"subnet-ipv4-cidr-block": subnet.CIDR.String(),
		"vpc-id":                 network.ID,
		"vpc-ipv4-cidr-block":    network.CIDR.String(),
		"vpc-ipv4-cidr-blocks":   network.CIDR.String(),
	} {
		meta("network/interfaces/macs/"+n.MAC+"/"+leaf, value)
	}
	if len(n.Groups) == 0 {
		return
	}
	var ids []string
	for _, g := range n.Groups {
		ids = append(ids, g.ID)
	}
	meta("network/interfaces/macs/"+n.MAC+"/security-groups", groupNames(n.Groups))
	meta("network/interfaces/macs/"+n.MAC+"/security-group-ids", strings.Join(ids, "\n"))
}

// groupNames are the names of security groups, one a line.
func groupNames(groups []fleet.Group) string {
	var names []string
	for _, g := range groups {
		names = append(names, g.Name)
	}
	return strings.Join(names, "\n")
}

// document is the instance identity document.
func (s Service) document(i fleet.Instance) string {
	return pretty(struct {
		Account       string    `json:"accountId"`
		Architecture  string    `json:"architecture"`
		Zone          string    `json:"availabilityZone"`
		Billing       []string  `json:"billingProducts"`
		DevPay        []string  `json:"devpayProductCodes"`
		Marketplace   []string  `json:"marketplaceProductCodes"`
		ImageID       string    `json:"imageId"`
		InstanceID    string    `json:"instanceId"`
		InstanceType  string    `json:"instanceType"`
		KernelID      *string   `json:"kernelId"`
		PendingTime   time.Time `json:"pendingTime"`
		PrivateIP     string    `json:"privateIp"`
		RamdiskID     *string   `json:"ramdiskId"`
		Region        string    `json:"region"`
		FormatVersion string    `json:"version"`
	}{
		Account: s.Plan.Account, Architecture: "x86_64", Zone: i.Zone, ImageID: i.ImageID, InstanceID: i.ID,
		InstanceType: i.Type, PendingTime: i.Started().Truncate(time.Second), PrivateIP: i.Address.String(),
		Region: s.Plan.Region, FormatVersion: "2017-09-30",
	})
}

func (s Service) profile(i fleet.Instance) string {
	arn := s.Plan.IAM("instance-profile/" + i.Profile)
	return pretty(struct {
		Code               string
		LastUpdated        time.Time
		InstanceProfileArn string
		InstanceProfileId  string //nolint:revive // EC2's spelling
	}{"Success", s.session(i).Issued.UTC(), arn, identity.UniqueID("AIPA", arn)})
}

func (s Service) credentials(i fleet.Instance) string {
	session := s.session(i)
	return pretty(struct {
		Code            string
		LastUpdated     time.Time
		Type            string
		AccessKeyId     string //nolint:revive // EC2's spelling
		SecretAccessKey string
		Token           string
		Expiration      time.Time
	}{
		"Success", session.Issued.UTC(), "AWS-HMAC", session.AccessKeyID, session.SecretAccessKey,
		session.SessionToken, session.Expires.UTC(),
	})
}

// role is the role of an instance's profile.
func (s Service) role(i fleet.Instance) string {
	if s.Role == nil || i.Profile == "" {
		return i.Profile
	}
	return s.Role(i.Profile)
}

func (s Service) session(i fleet.Instance) identity.Session {
	return s.Roles.Session(s.Plan.AssumedRole(s.role(i), i.ID))
}

// pretty spells JSON as EC2 does.
func pretty(value any) string {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return "" // the structures above always encode
	}
	return string(text)
}
