// Package partition knows AWS's partitions: separate clouds, of which a region belongs to
// one. ARNs and host names differ between them.
package partition

import (
	"slices"
	"strings"
)

// Partition is one of AWS's clouds.
type Partition struct {
	Name      string // in ARNs: "aws", "aws-cn"
	DNSSuffix string // of its services' host names: "amazonaws.com"
	prefix    string // of the names of its regions; empty: all other regions
}

// all are those of partitions.json of the AWS SDKs; the last takes every region.
var all = []Partition{
	{"aws-cn", "amazonaws.com.cn", "cn-"},
	{"aws-us-gov", "amazonaws.com", "us-gov-"},
	{"aws-iso", "c2s.ic.gov", "us-iso-"},
	{"aws-iso-b", "sc2s.sgov.gov", "us-isob-"},
	{"aws-iso-e", "cloud.adc-e.uk", "eu-isoe-"},
	{"aws-iso-f", "csp.hci.ic.gov", "us-isof-"},
	{"aws-eusc", "amazonaws.eu", "eusc-"},
	{"aws", "amazonaws.com", ""},
}

// Of returns the partition that a region belongs to.
func Of(region string) Partition {
	return all[slices.IndexFunc(all, func(p Partition) bool { return strings.HasPrefix(region, p.prefix) })]
}

// HasSuffix tells whether host ends in prefix and then the DNS suffix of any partition, as
// the names of AWS's services do.
func HasSuffix(host, prefix string) bool {
	return slices.ContainsFunc(all, func(p Partition) bool { return strings.HasSuffix(host, prefix+p.DNSSuffix) })
}
