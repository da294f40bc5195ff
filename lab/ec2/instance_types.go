package ec2

import (
	"encoding/xml"
	"fmt"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

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
