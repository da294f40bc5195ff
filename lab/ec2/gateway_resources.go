package ec2

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// retagged is an update that changes tags alone.
func retagged(s Service, tags func(*vpc.Record, string) *map[string]string) func(context.Context, string, resource.Request) error {
	return func(_ context.Context, id string, r resource.Request) error {
		var own []resourceTag
		if list, ok := r.Properties["Tags"].([]any); ok {
			var p struct{ Tags []resourceTag }
			if err := resource.Decode(map[string]any{"Tags": list}, &p); err != nil {
				return err
			}
			own = p.Tags
		}
		return s.changeVPCs(func(all *vpc.Record) error {
			of := tags(all, id)
			if of == nil {
				return resource.ErrNotFound
			}
			*of = resourceTags(r, own)
			return nil
		})
	}
}

type internetGatewayProperties struct{ Tags []resourceTag }

func internetGatewayType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::InternetGateway", Properties: &internetGatewayProperties{}, Attributes: []string{"InternetGatewayId"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p internetGatewayProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				g, err := s.addInternetGateway(resourceTags(r, p.Tags), r.Token)
				return g.ID, err
			},
			update:    retagged(s, (*vpc.Record).Tags),
			remove:    func(_ context.Context, id string) error { return s.dropInternetGateway(id) },
			attribute: func(id, _ string) (any, error) { return id, nil },
		},
	}
}

type gatewayAttachmentProperties struct {
	VPCID   string `json:"VpcId"`
	Gateway string `json:"InternetGatewayId"`
}

// attachmentPrefix begins the physical IDs of attachments of internet gateways.
const attachmentPrefix = "IGW|"

func gatewayAttachmentType(s Service) resource.Type {
	attach := func(p gatewayAttachmentProperties) error {
		if g := s.Plan.Now().InternetGateway(p.Gateway); g != nil && g.VPCID == p.VPCID {
			return nil // an earlier try's
		}
		return s.attachGateway(p.Gateway, p.VPCID)
	}
	detach := func(vpcID string) error {
		for _, g := range s.Plan.Now().InternetGateways {
			if g.VPCID == vpcID {
				return s.detachGateway(g.ID, vpcID)
			}
		}
		return nil
	}
	return resource.Type{
		Name: "AWS::EC2::VPCGatewayAttachment", Properties: &gatewayAttachmentProperties{}, Required: []string{"VpcId", "InternetGatewayId"},
		CreateOnly: []string{"VpcId"}, Attributes: []string{"AttachmentType"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p gatewayAttachmentProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				return attachmentPrefix + p.VPCID, attach(p)
			},
			update: func(_ context.Context, _ string, r resource.Request) error {
				var p gatewayAttachmentProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return err
				}
				if g := s.Plan.Now().InternetGateway(p.Gateway); g != nil && g.VPCID == p.VPCID {
					return nil
				}
				if err := detach(p.VPCID); err != nil {
					return err
				}
				return attach(p)
			},
			remove:    func(_ context.Context, id string) error { return detach(strings.TrimPrefix(id, attachmentPrefix)) },
			attribute: func(string, string) (any, error) { return "IGW", nil },
		},
	}
}

type egressGatewayProperties struct {
	VPCID string `json:"VpcId"`
	Tags  []resourceTag
}

func egressGatewayType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::EgressOnlyInternetGateway", Properties: &egressGatewayProperties{}, Required: []string{"VpcId"}, CreateOnly: []string{"VpcId"},
		Attributes: []string{"Id"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p egressGatewayProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				g, err := s.addEgressGateway(p.VPCID, resourceTags(r, p.Tags), r.Token)
				return g.ID, err
			},
			update:    retagged(s, (*vpc.Record).Tags),
			remove:    func(_ context.Context, id string) error { return s.dropEgressGateway(id) },
			attribute: func(id, _ string) (any, error) { return id, nil },
		},
	}
}

type natGatewayProperties struct {
	SubnetID   string `json:"SubnetId"`
	Allocation string `json:"AllocationId"`
	Kind       string `json:"ConnectivityType"`
	Tags       []resourceTag
}

func natGatewayType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::NatGateway", Properties: &natGatewayProperties{}, Required: []string{"SubnetId"},
		CreateOnly: []string{"SubnetId", "AllocationId", "ConnectivityType"}, Attributes: []string{"NatGatewayId", "EniId"},
		Handler: networkHandler{
			create: func(ctx context.Context, r resource.Request) (string, error) {
				var p natGatewayProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				if p.Kind != "" && p.Kind != "public" && p.Kind != "private" {
					return "", invalid("InvalidParameterValue", "Invalid value '%s' for ConnectivityType. Expected one of: public, private.", p.Kind)
				}
				order := natOrder{subnetID: p.SubnetID, allocation: p.Allocation, private: p.Kind == "private", tags: resourceTags(r, p.Tags), token: r.Token}
				g, err := s.addNATGateway(order)
				if err != nil {
					return "", err
				}
				return g.ID, s.awaitNAT(ctx, g.ID, "available")
			},
			update: retagged(s, (*vpc.Record).Tags),
			remove: func(ctx context.Context, id string) error {
				if err := s.dropNATGateway(id); err != nil {
					return err
				}
				return s.awaitNAT(ctx, id, "deleted")
			},
			attribute: func(id, name string) (any, error) {
				if name == "NatGatewayId" {
					return id, nil
				}
				return found(s.Plan.Now().NATGateway(id), func(g *vpc.NATGateway) any { return g.InterfaceID })
			},
		},
	}
}

// awaitNAT waits until a NAT gateway is in the state.
func (s Service) awaitNAT(ctx context.Context, id, state string) error {
	for {
		g := s.Plan.Now().NATGateway(id)
		switch {
		case g == nil:
			return noNATGateway(id)
		case natState(*g, s.now()) == state:
			return nil
		case state == "available" && !g.Deleted.IsZero():
			return fmt.Errorf("%s was deleted meanwhile", id)
		}
		if err := retry.Wait(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s to be %s: %w", id, state, err)
		}
	}
}
