package eks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
)

// placement is where a cluster goes: the VPC of its subnets, and addresses for its
// services that are none of the VPC's.
type placement struct {
	vpcID       string
	vpcCIDR     string
	serviceCIDR string
}

// place looks the subnets up and derives what they decide.
func (a *api) place(ctx context.Context, request createRequest) (placement, error) {
	subnets, err := a.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: request.VPC.SubnetIDs})
	if err != nil {
		return placement{}, ec2Error(request.Name, "resourcesVpcConfig.subnetIds", err)
	}
	vpcID, err := commonVPC(request.Name, request.VPC.SubnetIDs, subnets.Subnets)
	if err != nil {
		return placement{}, err
	}
	vpcs, err := a.EC2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{vpcID}})
	if err != nil {
		return placement{}, ec2Error(request.Name, "resourcesVpcConfig.subnetIds", err)
	}
	if len(vpcs.Vpcs) != 1 {
		return placement{}, fmt.Errorf("EC2 described %d VPCs for %s", len(vpcs.Vpcs), vpcID)
	}
	taken, err := vpcPrefixes(vpcs.Vpcs[0])
	if err != nil {
		return placement{}, fmt.Errorf("VPC %s: %w", vpcID, err)
	}
	if overlapping(a.PodCIDR, taken) {
		return placement{}, invalidParameter(request.Name, "resourcesVpcConfig.subnetIds: the VPC %s overlaps this service's pod addresses %s", vpcID, a.PodCIDR)
	}
	service, err := serviceCIDR(request.Name, request.Network.ServiceIPv4CIDR, taken, a.PodCIDR)
	if err != nil {
		return placement{}, err
	}
	return placement{vpcID: vpcID, vpcCIDR: taken[0].String(), serviceCIDR: service.String()}, nil
}

// commonVPC demands that EC2 knows every subnet, that they are in one VPC, and in at least
// two zones.
func commonVPC(name string, ids []string, subnets []types.Subnet) (vpcID string, err error) {
	known, zones := map[string]types.Subnet{}, map[string]bool{}
	for _, s := range subnets {
		if s.SubnetId != nil && s.VpcId != nil && s.AvailabilityZone != nil {
			known[*s.SubnetId] = s
		}
	}
	for _, id := range ids {
		subnet, ok := known[id]
		if !ok {
			return "", invalidParameter(name, "resourcesVpcConfig.subnetIds: the subnet ID '%.40s' does not exist", id)
		}
		if vpcID == "" {
			vpcID = *subnet.VpcId
		}
		if *subnet.VpcId != vpcID {
			return "", invalidParameter(name, "resourcesVpcConfig.subnetIds: %s is in %s and %s in %s: all must be in one VPC", ids[0], vpcID, id, *subnet.VpcId)
		}
		zones[*subnet.AvailabilityZone] = true
	}
	if len(zones) < 2 {
		return "", invalidParameter(name, "resourcesVpcConfig.subnetIds: subnets specified must be in at least two different AZs")
	}
	return vpcID, nil
}

// vpcPrefixes returns the VPC's addresses, the primary ones first.
func vpcPrefixes(vpc types.Vpc) ([]netip.Prefix, error) {
	var texts []string
	if vpc.CidrBlock != nil {
		texts = append(texts, *vpc.CidrBlock)
	}
	for _, more := range vpc.CidrBlockAssociationSet {
		if more.CidrBlock != nil && *more.CidrBlock != texts[0] {
			texts = append(texts, *more.CidrBlock)
		}
	}
	var prefixes []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	if len(prefixes) == 0 {
		return nil, errors.New("EC2 tells no CIDR block")
	}
	return prefixes, nil
}

var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
}

// serviceCIDR returns the one that was asked for, if it is usable, or EKS's default: a
// block that the VPC's addresses leave free.
func serviceCIDR(name, asked string, vpc []netip.Prefix, pods netip.Prefix) (netip.Prefix, error) {
	if asked == "" {
		asked = "10.100.0.0/16"
		if private[0].Overlaps(vpc[0]) {
			asked = "172.20.0.0/16"
		}
	}
	const field = "kubernetesNetworkConfig.serviceIpv4Cidr"
	prefix, err := netip.ParsePrefix(asked)
	switch {
	case err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked():
		return netip.Prefix{}, invalidParameter(name, "%s: %.40q is not an IPv4 CIDR block", field, asked)
	case prefix.Bits() < 12 || prefix.Bits() > 24:
		return netip.Prefix{}, invalidParameter(name, "%s: %s must be between /24 and /12", field, prefix)
	case !within(prefix, private):
		return netip.Prefix{}, invalidParameter(name, "%s: %s must be within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16", field, prefix)
	case overlapping(prefix, vpc):
		return netip.Prefix{}, invalidParameter(name, "%s: %s overlaps the VPC's addresses %s: choose another block", field, prefix, list(vpc))
	case prefix.Overlaps(pods):
		return netip.Prefix{}, invalidParameter(name, "%s: %s overlaps the pods' addresses %s: choose another block", field, prefix, pods)
	}
	return prefix, nil
}

func overlapping(prefix netip.Prefix, others []netip.Prefix) bool {
	for _, other := range others {
		if prefix.Overlaps(other) {
			return true
		}
	}
	return false
}

func within(prefix netip.Prefix, outer []netip.Prefix) bool {
	for _, o := range outer {
		if o.Bits() <= prefix.Bits() && o.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

func list(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

// ec2Error tells a caller's mistake, which EC2 names, from trouble between us and EC2.
func ec2Error(name, field string, err error) error {
	var refusal smithy.APIError
	if errors.As(err, &refusal) {
		if code := strings.ToLower(refusal.ErrorCode()); strings.HasPrefix(code, "invalidsubnetid.") || strings.HasPrefix(code, "invalidvpcid.") {
			return invalidParameter(name, "%s: %.300s", field, refusal.ErrorMessage())
		}
	}
	return errors.Join(unavailable("EC2 could not be asked about the subnets. Try again."), err)
}
