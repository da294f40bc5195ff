package ec2

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

type interfaceProperties struct {
	Description      string
	GroupSet         []string `ec2:"SecurityGroupId"`
	PrivateIPAddress string   `json:"PrivateIpAddress"`
	SourceDestCheck  *bool
	SubnetID         string `json:"SubnetId"`
	Tags             []resourceTag
}

// interfaceType is a network interface, which keeps its subnet and its address.
func (s Service) interfaceType() resource.Type {
	return resource.Type{
		Name: "AWS::EC2::NetworkInterface", Properties: &interfaceProperties{}, Required: []string{"SubnetId"},
		CreateOnly: []string{"SubnetId", "PrivateIpAddress"}, Attributes: []string{"Id", "PrimaryPrivateIpAddress", "VpcId"},
		Handler: interfaceHandler{kind{s}},
	}
}

type interfaceHandler struct{ kind }

// Create implements resource.Handler.
func (h interfaceHandler) Create(_ context.Context, r resource.Request) (string, error) {
	var properties interfaceProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return "", err
	}
	asked := properties
	asked.SourceDestCheck, asked.Tags = nil, nil
	values := spread("", asked)
	values.Set("ClientToken", r.Token)
	tagSpecification(values, "network-interface", r, properties.Tags)
	made, err := ask[createInterfaceResponse](h.s, "CreateNetworkInterface", values)
	if err != nil {
		return "", err
	}
	return made.Interface.ID, h.sourceCheck(made.Interface.ID, properties.SourceDestCheck)
}

// sourceCheck asks for what an interface has anyway, or is refused.
func (h interfaceHandler) sourceCheck(id string, on *bool) error {
	if on == nil {
		return nil
	}
	return h.modify(id, url.Values{"SourceDestCheck.Value": {strconv.FormatBool(*on)}})
}

func (h interfaceHandler) modify(id string, change url.Values) error {
	change.Set("NetworkInterfaceId", id)
	_, err := ask[done](h.s, "ModifyNetworkInterfaceAttribute", change)
	return gone(err)
}

// Update implements resource.Handler.
func (h interfaceHandler) Update(_ context.Context, id string, r resource.Request) error {
	var before, properties interfaceProperties
	if err := errors.Join(resource.Decode(r.Before, &before), resource.Decode(r.Properties, &properties)); err != nil {
		return err
	}
	if properties.Description != before.Description {
		if err := h.modify(id, url.Values{"Description.Value": {properties.Description}}); err != nil {
			return err
		}
	}
	if !slices.Equal(properties.GroupSet, before.GroupSet) {
		if len(properties.GroupSet) == 0 {
			properties.GroupSet = []string{h.s.Plan.VPCOf(properties.SubnetID).DefaultGroup()}
		}
		if err := h.modify(id, spread("", interfaceProperties{GroupSet: properties.GroupSet})); err != nil {
			return err
		}
	}
	if err := h.sourceCheck(id, properties.SourceDestCheck); err != nil {
		return err
	}
	return h.s.retagResource(id, r, before.Tags, properties.Tags)
}

// Delete implements resource.Handler.
func (h interfaceHandler) Delete(_ context.Context, id string, _ resource.Request) error {
	_, err := ask[done](h.s, "DeleteNetworkInterface", url.Values{"NetworkInterfaceId": {id}})
	return removed(err)
}

// Attribute implements resource.Handler.
func (h interfaceHandler) Attribute(_ context.Context, id, name string) (any, error) {
	var item interfaceItem
	err := h.s.change(func(c *contents) error {
		n, err := c.elasticInterface(id)
		if err == nil {
			item = h.s.interfaceItem(n)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, gone(err)
	case name == "Id":
		return id, nil
	case name == "PrimaryPrivateIpAddress":
		return item.Address, nil
	case name == "VpcId":
		return item.VPCID, nil
	}
	return nil, noAttribute(name)
}
