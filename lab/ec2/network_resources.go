package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// NetworkResourceTypes are the resource types of CloudFormation for VPCs and what is in them.
func NetworkResourceTypes(s Service) []resource.Type {
	return []resource.Type{
		vpcType(s), vpcBlockType(s), subnetType(s),
		internetGatewayType(s), gatewayAttachmentType(s), egressGatewayType(s), natGatewayType(s),
		routeTableType(s), routeType(s), tableAssociationType(s), endpointType(s),
	}
}

// networkHandler is a resource.Handler of functions. The physical ID is what Ref gives.
type networkHandler struct {
	create    func(context.Context, resource.Request) (id string, err error)
	update    func(ctx context.Context, id string, r resource.Request) error
	remove    func(ctx context.Context, id string) error
	attribute func(id, name string) (any, error)
}

// Create implements resource.Handler.
func (h networkHandler) Create(ctx context.Context, r resource.Request) (string, error) {
	return h.create(ctx, r)
}

// Update implements resource.Handler.
func (h networkHandler) Update(ctx context.Context, id string, r resource.Request) error {
	if h.update == nil {
		return errors.New("nothing of it can be changed")
	}
	return gone(h.update(ctx, id, r))
}

// Delete implements resource.Handler.
func (h networkHandler) Delete(ctx context.Context, id string, _ resource.Request) error {
	if err := h.remove(ctx, id); !errors.Is(gone(err), resource.ErrNotFound) {
		return err
	}
	return nil
}

// Ref implements resource.Handler.
func (networkHandler) Ref(id string) string { return id }

// Attribute implements resource.Handler.
func (h networkHandler) Attribute(_ context.Context, id, name string) (any, error) {
	return h.attribute(id, name)
}

// found is an attribute of a resource that still exists.
func found[T any](r *T, value func(*T) any) (any, error) {
	if r == nil {
		return nil, resource.ErrNotFound
	}
	return value(r), nil
}

func unknownAttribute(kind, name string) error {
	return fmt.Errorf("%s has no attribute %s", kind, name)
}

type vpcProperties struct {
	CIDR               string `json:"CidrBlock"`
	EnableDNSSupport   *bool  `json:"EnableDnsSupport"`
	EnableDNSHostnames *bool  `json:"EnableDnsHostnames"`
	InstanceTenancy    string
	Tags               []resourceTag
}

func vpcType(s Service) resource.Type {
	apply := func(id string, r resource.Request, p vpcProperties) error {
		return s.amendVPC(id, func(v *vpc.VPC) error {
			v.DNSSupport = p.EnableDNSSupport == nil || *p.EnableDNSSupport
			v.DNSHostnames = p.EnableDNSHostnames != nil && *p.EnableDNSHostnames
			v.Tags = resourceTags(r, p.Tags)
			return nil
		})
	}
	return resource.Type{
		Name: "AWS::EC2::VPC", Properties: &vpcProperties{}, Required: []string{"CidrBlock"}, CreateOnly: []string{"CidrBlock", "InstanceTenancy"},
		Attributes: []string{"VpcId", "CidrBlock", "CidrBlockAssociations", "DefaultNetworkAcl", "DefaultSecurityGroup", "Ipv6CidrBlocks"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p vpcProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				if p.InstanceTenancy != "" && p.InstanceTenancy != "default" {
					return "", invalid("UnsupportedOperation", "The lab has no instance tenancy %s.", p.InstanceTenancy)
				}
				v, err := s.addVPC(vpcOrder{block: p.CIDR, tags: resourceTags(r, p.Tags), token: r.Token})
				if err != nil {
					return "", err
				}
				return v.ID, apply(v.ID, r, p)
			},
			update: func(_ context.Context, id string, r resource.Request) error {
				var p vpcProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return err
				}
				return apply(id, r, p)
			},
			remove:    func(_ context.Context, id string) error { return s.dropVPC(id) },
			attribute: func(id, name string) (any, error) { return vpcAttributeOf(s.Plan.Now().VPC(id), name) },
		},
	}
}

func vpcAttributeOf(v *vpc.VPC, name string) (any, error) {
	switch name {
	case "VpcId":
		return found(v, func(v *vpc.VPC) any { return v.ID })
	case "CidrBlock":
		return found(v, func(v *vpc.VPC) any { return v.CIDR.String() })
	case "CidrBlockAssociations":
		return found(v, func(v *vpc.VPC) any { return []string{v.Association} })
	case "DefaultNetworkAcl":
		return found(v, func(v *vpc.VPC) any { return v.DefaultACL() })
	case "DefaultSecurityGroup":
		return found(v, func(v *vpc.VPC) any { return v.DefaultGroup() })
	case "Ipv6CidrBlocks":
		return found(v, func(v *vpc.VPC) any {
			blocks := []string{}
			for _, b := range v.IPv6 {
				blocks = append(blocks, b.CIDR.String())
			}
			return blocks
		})
	}
	return nil, unknownAttribute("a VPC", name)
}

type vpcBlockProperties struct {
	VPCID  string `json:"VpcId"`
	Amazon bool   `json:"AmazonProvidedIpv6CidrBlock"`
}

func vpcBlockType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::VPCCidrBlock", Properties: &vpcBlockProperties{}, Required: []string{"VpcId", "AmazonProvidedIpv6CidrBlock"},
		CreateOnly: []string{"VpcId", "AmazonProvidedIpv6CidrBlock"}, Attributes: []string{"Id"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p vpcBlockProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				if !p.Amazon {
					return "", invalid("UnsupportedOperation", "The lab associates VPCs with IPv6 blocks provided by Amazon only.")
				}
				b, err := s.addIPv6(p.VPCID, r.Token)
				return b.Association, err
			},
			remove: func(_ context.Context, id string) error {
				_, err := s.dropIPv6(id)
				return err
			},
			attribute: func(id, _ string) (any, error) { return id, nil },
		},
	}
}

type subnetProperties struct {
	VPCID    string `json:"VpcId"`
	CIDR     string `json:"CidrBlock"`
	IPv6     string `json:"Ipv6CidrBlock"`
	Zone     string `json:"AvailabilityZone"`
	ZoneID   string `json:"AvailabilityZoneId"`
	PublicIP bool   `json:"MapPublicIpOnLaunch"`
	AutoIPv6 bool   `json:"AssignIpv6AddressOnCreation"`
	Tags     []resourceTag
}

func subnetType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::Subnet", Properties: &subnetProperties{}, Required: []string{"VpcId", "CidrBlock"},
		CreateOnly: []string{"VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId"},
		Attributes: []string{"SubnetId", "VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId", "Ipv6CidrBlocks"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p subnetProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				subnet, err := s.addSubnet(subnetOrder{
					vpcID: p.VPCID, block: p.CIDR, ipv6: p.IPv6, zone: p.Zone, zoneID: p.ZoneID,
					publicIP: p.PublicIP, autoIPv6: p.AutoIPv6, tags: resourceTags(r, p.Tags), token: r.Token,
				})
				return subnet.ID, err
			},
			update: func(_ context.Context, id string, r resource.Request) error {
				var p subnetProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return err
				}
				return s.changeVPCs(func(all *vpc.Record) error { return p.apply(all, id, resourceTags(r, p.Tags)) })
			},
			remove:    func(_ context.Context, id string) error { return s.dropSubnet(id) },
			attribute: func(id, name string) (any, error) { return subnetAttributeOf(s.Plan.Now().Subnet(id), name) },
		},
	}
}

// apply changes what of a subnet can be changed.
func (p subnetProperties) apply(r *vpc.Record, id string, tags map[string]string) error {
	subnet := r.Subnet(id)
	if subnet == nil {
		return noSubnet(id)
	}
	subnet.IPv6 = netip.Prefix{}
	ipv6, err := subnetIPv6(r, *r.VPC(subnet.VPCID), p.IPv6)
	if err != nil {
		return err
	}
	if p.AutoIPv6 && !ipv6.IsValid() {
		return noIPv6(id)
	}
	subnet.IPv6, subnet.PublicIP, subnet.AutoIPv6, subnet.Tags = ipv6, p.PublicIP, p.AutoIPv6, tags
	return nil
}

func subnetAttributeOf(subnet *vpc.Subnet, name string) (any, error) {
	switch name {
	case "SubnetId":
		return found(subnet, func(v *vpc.Subnet) any { return v.ID })
	case "VpcId":
		return found(subnet, func(v *vpc.Subnet) any { return v.VPCID })
	case "CidrBlock":
		return found(subnet, func(v *vpc.Subnet) any { return v.CIDR.String() })
	case "AvailabilityZone":
		return found(subnet, func(v *vpc.Subnet) any { return v.Zone })
	case "AvailabilityZoneId":
		return found(subnet, func(v *vpc.Subnet) any { return v.ZoneID })
	case "Ipv6CidrBlocks":
		return found(subnet, func(v *vpc.Subnet) any {
			if v.IPv6.IsValid() {
				return []string{v.IPv6.String()}
			}
			return []string{}
		})
	}
	return nil, unknownAttribute("a subnet", name)
}
