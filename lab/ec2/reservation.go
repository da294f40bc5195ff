package ec2

import (
	"maps"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
)

// The elements below carry what EC2 would say of an instance of the lab, in its own words
// (API reference, data type Instance).

type reservation struct {
	ID        string     `xml:"reservationId"`
	Owner     string     `xml:"ownerId"`
	Instances []instance `xml:"instancesSet>item"`
}

type instanceState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

type reason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type placement struct {
	Zone    string `xml:"availabilityZone"`
	ZoneID  string `xml:"availabilityZoneId,omitempty"`
	Tenancy string `xml:"tenancy"`
}

type profile struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type metadataOptions struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	HopLimit int    `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	IPv6     string `xml:"httpProtocolIpv6"`
	Tags     string `xml:"instanceMetadataTags"`
}

type ebs struct {
	VolumeID            string `xml:"volumeId"`
	Status              string `xml:"status"`
	AttachTime          string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

type blockDevice struct {
	Name string `xml:"deviceName"`
	EBS  ebs    `xml:"ebs"`
}

type cpuOptions struct {
	Cores   int `xml:"coreCount"`
	Threads int `xml:"threadsPerCore"`
}

type attachment struct {
	ID                  string `xml:"attachmentId"`
	DeviceIndex         int    `xml:"deviceIndex"`
	Status              string `xml:"status"`
	AttachTime          string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
	NetworkCard         int    `xml:"networkCardIndex"`
}

type privateAddressItem struct {
	Address string `xml:"privateIpAddress"`
	DNSName string `xml:"privateDnsName"`
	Primary bool   `xml:"primary"`
}

type groupIdentifier struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

func groupIdentifiers(groups []fleet.Group) []groupIdentifier {
	var all []groupIdentifier
	for _, g := range groups {
		all = append(all, groupIdentifier(g))
	}
	return all
}

type networkInterface struct {
	ID              string               `xml:"networkInterfaceId"`
	SubnetID        string               `xml:"subnetId"`
	VPCID           string               `xml:"vpcId"`
	Description     string               `xml:"description"`
	Owner           string               `xml:"ownerId"`
	Status          string               `xml:"status"`
	MAC             string               `xml:"macAddress"`
	Address         string               `xml:"privateIpAddress"`
	DNSName         string               `xml:"privateDnsName"`
	SourceDestCheck bool                 `xml:"sourceDestCheck"`
	Groups          []groupIdentifier    `xml:"groupSet>item"`
	Attachment      attachment           `xml:"attachment"`
	Addresses       []privateAddressItem `xml:"privateIpAddressesSet>item"`
	Type            string               `xml:"interfaceType"`
}

type instance struct {
	ID                 string             `xml:"instanceId"`
	ImageID            string             `xml:"imageId"`
	State              instanceState      `xml:"instanceState"`
	PrivateDNSName     string             `xml:"privateDnsName"`
	DNSName            string             `xml:"dnsName"`
	Why                string             `xml:"reason"`
	LaunchIndex        int                `xml:"amiLaunchIndex"`
	Type               string             `xml:"instanceType"`
	LaunchTime         string             `xml:"launchTime"`
	Placement          placement          `xml:"placement"`
	Monitoring         string             `xml:"monitoring>state"`
	SubnetID           string             `xml:"subnetId,omitempty"`
	VPCID              string             `xml:"vpcId,omitempty"`
	Address            string             `xml:"privateIpAddress,omitempty"`
	SourceDestCheck    bool               `xml:"sourceDestCheck,omitempty"`
	Groups             []groupIdentifier  `xml:"groupSet>item"`
	StateReason        *reason            `xml:"stateReason"`
	Architecture       string             `xml:"architecture"`
	RootDeviceType     string             `xml:"rootDeviceType"`
	RootDeviceName     string             `xml:"rootDeviceName"`
	BlockDevices       []blockDevice      `xml:"blockDeviceMapping>item"`
	VirtualizationType string             `xml:"virtualizationType"`
	ClientToken        string             `xml:"clientToken"`
	Tags               []tag              `xml:"tagSet>item"`
	Lifecycle          string             `xml:"instanceLifecycle,omitempty"`
	SpotRequest        string             `xml:"spotInstanceRequestId,omitempty"`
	Hypervisor         string             `xml:"hypervisor"`
	Interfaces         []networkInterface `xml:"networkInterfaceSet>item"`
	Profile            *profile           `xml:"iamInstanceProfile"`
	EBSOptimized       bool               `xml:"ebsOptimized"`
	ENASupport         bool               `xml:"enaSupport"`
	CPU                cpuOptions         `xml:"cpuOptions"`
	Metadata           metadataOptions    `xml:"metadataOptions"`
	BootMode           string             `xml:"bootMode"`
	CurrentBootMode    string             `xml:"currentInstanceBootMode"`
}

// timeFormat is EC2's: milliseconds, UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

func stateCode(s fleet.State) int {
	switch s {
	case fleet.Pending:
		return 0
	case fleet.Running:
		return 16
	case fleet.ShuttingDown:
		return 32
	case fleet.Terminated:
		return 48
	case fleet.Stopping:
		return 64
	case fleet.Stopped:
		return 80
	}
	return -1
}

func stateOf(s fleet.State) instanceState { return instanceState{Code: stateCode(s), Name: string(s)} }

func (s Service) profileARN(name string) string { return s.Plan.IAM("instance-profile/" + name) }

func (s Service) reservation(of []fleet.Instance) (reservation, error) {
	r := reservation{ID: of[0].ReservationID, Owner: s.Plan.Account}
	for _, i := range of {
		v := s.instance(i)
		more, err := s.moreInterfaces(i)
		if err != nil {
			return r, err
		}
		v.Interfaces = append(v.Interfaces, more...)
		r.Instances = append(r.Instances, v)
	}
	return r, nil
}

func (s Service) instance(i fleet.Instance) instance {
	kind, _ := fleet.FindType(i.Type)
	subnet, _ := s.Plan.Subnet(i.SubnetID)
	launched := i.Started().Format(timeFormat)
	v := instance{
		ID: i.ID, ImageID: i.ImageID, State: stateOf(i.State), LaunchIndex: i.LaunchIndex, Type: i.Type,
		LaunchTime: launched, Placement: placement{Zone: i.Zone, ZoneID: subnet.ZoneID, Tenancy: "default"},
		Monitoring: "disabled", Architecture: "x86_64", RootDeviceType: "ebs", RootDeviceName: i.Device(),
		VirtualizationType: "hvm", ClientToken: i.ClientToken, Hypervisor: "xen", ENASupport: true, EBSOptimized: i.EBSOptimized,
		CPU: cpuOptions{Cores: kind.VCPUs / 2, Threads: 2}, BootMode: "uefi", CurrentBootMode: "uefi",
		Metadata: metadataOptions{State: "applied", Tokens: "required", HopLimit: 1, Endpoint: "enabled", IPv6: "disabled", Tags: "disabled"},
	}
	if i.Monitoring {
		v.Monitoring = "enabled"
	}
	if i.MetadataTags {
		v.Metadata.Tags = "enabled"
	}
	if i.Spot != "" {
		v.Lifecycle, v.SpotRequest = "spot", "sir-"+i.ID[len(i.ID)-8:]
	}
	if i.Reason.Code != "" {
		v.StateReason = &reason{Code: i.Reason.Code, Message: i.Reason.Message}
		v.Why = i.Reason.Message
	}
	if i.Profile != "" {
		arn := s.profileARN(i.Profile)
		v.Profile = &profile{ARN: arn, ID: identity.UniqueID("AIPA", arn)}
	}
	for _, key := range slices.Sorted(maps.Keys(i.Tags)) {
		v.Tags = append(v.Tags, tag{Key: key, Value: i.Tags[key]})
	}
	if !i.HasAddress() {
		return v // a terminated instance has no place any more
	}
	name := s.Plan.PrivateDNSName(i.Address)
	v.PrivateDNSName, v.SubnetID, v.VPCID, v.Address, v.SourceDestCheck = name, i.SubnetID, s.Plan.VPCOf(i.SubnetID).ID, i.Address.String(), true
	v.Groups = groupIdentifiers(i.Groups)
	v.BlockDevices = blockDevices(i, launched)
	v.Interfaces = []networkInterface{{
		ID: i.InterfaceID, SubnetID: i.SubnetID, VPCID: v.VPCID, Owner: s.Plan.Account, Status: "in-use",
		MAC: i.MAC, Address: v.Address, DNSName: name, SourceDestCheck: true, Type: "interface", Groups: v.Groups,
		Attachment: attachment{ID: i.AttachmentID, Status: "attached", AttachTime: launched, DeleteOnTermination: true},
		Addresses:  []privateAddressItem{{Address: v.Address, DNSName: name, Primary: true}},
	}}
	return v
}
