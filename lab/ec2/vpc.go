package ec2

import (
	"encoding/xml"
	"fmt"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

type describeVPCsResponse struct {
	XMLName   xml.Name  `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeVpcsResponse"`
	RequestID string    `xml:"requestId"`
	VPCs      []vpcItem `xml:"vpcSet>item"`
}

type vpcItem struct {
	ID      string `xml:"vpcId"`
	Owner   string `xml:"ownerId"`
	State   string `xml:"state"`
	CIDR    string `xml:"cidrBlock"`
	Blocks  []cidr `xml:"cidrBlockAssociationSet>item"`
	Options string `xml:"dhcpOptionsId"`
	Tenancy string `xml:"instanceTenancy"`
	Default bool   `xml:"isDefault"`
	Tags    []tag  `xml:"tagSet>item"`
}

type cidr struct {
	Block string `xml:"cidrBlock"`
	State string `xml:"cidrBlockState>state"`
}

func (s Service) describeVPCs(p *params) (any, error) {
	ids, filters := p.list("VpcId"), p.filters()
	p.page(len(ids) > 0, "vpcSet") // one VPC fits on any page
	if err := p.done(); err != nil {
		return nil, err
	}
	all := []vpcItem{{
		ID: s.Plan.VPCID, Owner: s.Plan.Account, State: "available", CIDR: s.Plan.CIDR.String(),
		Blocks:  []cidr{{Block: s.Plan.CIDR.String(), State: "associated"}},
		Options: "dopt-0a1b2c3d4e5f60718", Tenancy: "default", Tags: []tag{{"Name", "lab"}},
	}}
	if s.Plan.VPCID == "" {
		all = nil
	}
	for _, id := range ids {
		if id != s.Plan.VPCID {
			return nil, invalid("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
		}
	}
	all, err := choose(all, filters, attributes[vpcItem]{
		"vpc-id":     one(func(v vpcItem) string { return v.ID }),
		"cidr":       one(func(v vpcItem) string { return v.CIDR }),
		"owner-id":   one(func(v vpcItem) string { return v.Owner }),
		"state":      one(func(v vpcItem) string { return v.State }),
		"is-default": one(func(v vpcItem) string { return fmt.Sprint(v.Default) }),
	}, func(v vpcItem) map[string]string { return tagMap(v.Tags) })
	return describeVPCsResponse{RequestID: p.id, VPCs: all}, err
}

type describeSubnetsResponse struct {
	XMLName   xml.Name     `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSubnetsResponse"`
	RequestID string       `xml:"requestId"`
	Subnets   []subnetItem `xml:"subnetSet>item"`
}

type subnetItem struct {
	ID          string `xml:"subnetId"`
	ARN         string `xml:"subnetArn"`
	State       string `xml:"state"`
	Owner       string `xml:"ownerId"`
	VPCID       string `xml:"vpcId"`
	CIDR        string `xml:"cidrBlock"`
	Free        int    `xml:"availableIpAddressCount"`
	Zone        string `xml:"availabilityZone"`
	ZoneID      string `xml:"availabilityZoneId"`
	ZoneDefault bool   `xml:"defaultForAz"`
	PublicIP    bool   `xml:"mapPublicIpOnLaunch"`
	Tags        []tag  `xml:"tagSet>item"`
}

func (s Service) describeSubnets(p *params) (any, error) {
	ids, filters := p.list("SubnetId"), p.filters()
	p.page(len(ids) > 0, "subnetSet") // three subnets fit on any page
	if err := p.done(); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, ok := s.Plan.Subnet(id); !ok {
			return nil, invalid("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
		}
	}
	taken := map[string]int{}
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() {
			taken[i.SubnetID]++
		}
	}
	var all []subnetItem
	for _, subnet := range s.Plan.Subnets {
		if len(ids) == 0 || slices.Contains(ids, subnet.ID) {
			all = append(all, s.subnetItem(subnet, subnet.Size()-taken[subnet.ID]))
		}
	}
	all, err := choose(all, filters, attributes[subnetItem]{
		"subnet-id":            one(func(v subnetItem) string { return v.ID }),
		"subnet-arn":           one(func(v subnetItem) string { return v.ARN }),
		"vpc-id":               one(func(v subnetItem) string { return v.VPCID }),
		"availability-zone":    one(func(v subnetItem) string { return v.Zone }),
		"availability-zone-id": one(func(v subnetItem) string { return v.ZoneID }),
		"cidr-block":           one(func(v subnetItem) string { return v.CIDR }),
		"owner-id":             one(func(v subnetItem) string { return v.Owner }),
		"state":                one(func(v subnetItem) string { return v.State }),
		"default-for-az":       one(func(v subnetItem) string { return fmt.Sprint(v.ZoneDefault) }),
	}, func(v subnetItem) map[string]string { return tagMap(v.Tags) })
	return describeSubnetsResponse{RequestID: p.id, Subnets: all}, err
}

func (s Service) subnetItem(subnet vpc.Subnet, free int) subnetItem {
	return subnetItem{
		ID: subnet.ID, State: "available", Owner: s.Plan.Account, VPCID: s.Plan.VPCID,
		ARN:  fmt.Sprintf("arn:%s:ec2:%s:%s:subnet/%s", s.Plan.Partition, s.Plan.Region, s.Plan.Account, subnet.ID),
		CIDR: subnet.CIDR.String(), Free: free, Zone: subnet.Zone, ZoneID: subnet.ZoneID,
		Tags: []tag{{"Name", "lab-" + subnet.Zone}},
	}
}

func tagMap(tags []tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

type describeInstanceTypesResponse struct {
	XMLName   xml.Name   `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstanceTypesResponse"`
	RequestID string     `xml:"requestId"`
	Types     []typeItem `xml:"instanceTypeSet>item"`
}

type typeItem struct {
	Name          string   `xml:"instanceType"`
	Current       bool     `xml:"currentGeneration"`
	BareMetal     bool     `xml:"bareMetal"`
	Hypervisor    string   `xml:"hypervisor"`
	Architectures []string `xml:"processorInfo>supportedArchitectures>item"`
	VCPUs         int      `xml:"vCpuInfo>defaultVCpus"`
	Cores         int      `xml:"vCpuInfo>defaultCores"`
	Threads       int      `xml:"vCpuInfo>defaultThreadsPerCore"`
	MemoryMiB     int      `xml:"memoryInfo>sizeInMiB"`
	HasStore      bool     `xml:"instanceStorageSupported"`
	Store         *store   `xml:"instanceStorageInfo"`
	Interfaces    int      `xml:"networkInfo>maximumNetworkInterfaces"`
	Cards         int      `xml:"networkInfo>maximumNetworkCards"`
	DefaultCard   int      `xml:"networkInfo>defaultNetworkCardIndex"`
	CardList      []card   `xml:"networkInfo>networkCards>item"`
	IPv4PerENI    int      `xml:"networkInfo>ipv4AddressesPerInterface"`
	ENASupport    string   `xml:"networkInfo>enaSupport"`
}

// store is a type's instance store, of equal drives.
type store struct {
	TotalGB    int         `xml:"totalSizeInGB"`
	Disks      []storeDisk `xml:"disks>item"`
	NVMe       string      `xml:"nvmeSupport"`
	Encryption string      `xml:"encryptionSupport"`
}

type storeDisk struct {
	SizeGB int    `xml:"sizeInGB"`
	Count  int    `xml:"count"`
	Type   string `xml:"type"`
}

func storeOf(t fleet.Type) *store {
	if t.Drives == 0 {
		return nil
	}
	disks := []storeDisk{{SizeGB: t.DriveGB, Count: t.Drives, Type: "ssd"}}
	return &store{TotalGB: t.Drives * t.DriveGB, Disks: disks, NVMe: "required", Encryption: "required"}
}

type card struct {
	Index      int `xml:"networkCardIndex"`
	Interfaces int `xml:"maximumNetworkInterfaces"`
}

func (s Service) describeInstanceTypes(p *params) (any, error) {
	names, filters := p.list("InstanceType"), p.filters()
	p.page(len(names) > 0, "instanceTypeSet") // the lab's few types fit on any page
	if err := p.done(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := fleet.FindType(name); !ok {
			return nil, invalid("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
	}
	var all []typeItem
	for _, t := range fleet.Types() {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		all = append(all, typeItem{
			Name: t.Name, Current: true, Hypervisor: "nitro", Architectures: []string{"x86_64"},
			HasStore: t.Drives > 0, Store: storeOf(t),
			VCPUs: t.VCPUs, Cores: t.VCPUs / 2, Threads: 2, MemoryMiB: t.MemoryMiB,
			Interfaces: t.Interfaces, Cards: 1, CardList: []card{{Interfaces: t.Interfaces}},
			IPv4PerENI: t.IPv4PerENI, ENASupport: "required",
		})
	}
	all, err := choose(all, filters, attributes[typeItem]{
		"instance-type":      one(func(v typeItem) string { return v.Name }),
		"current-generation": one(func(v typeItem) string { return fmt.Sprint(v.Current) }),
	}, func(typeItem) map[string]string { return nil })
	return describeInstanceTypesResponse{RequestID: p.id, Types: all}, err
}
