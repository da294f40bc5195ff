package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

type volumeProperties struct {
	AvailabilityZone string
	Size             *int
	SnapshotID       string `json:"SnapshotId"`
	VolumeType       string
	IOPS             *int `json:"Iops"`
	Throughput       *int
	Encrypted        *bool
	KMSKeyID         string `json:"KmsKeyId"`
	Tags             []resourceTag
}

type addressProperties struct {
	Domain string
	Tags   []resourceTag
}

type associationProperties struct {
	AllocationID string `json:"AllocationId"`
	InstanceID   string `json:"InstanceId"`
}

// storageTypes are volumes and Elastic IP addresses. A volume does not change but for its
// tags: what would need ModifyVolume replaces it.
func (s Service) storageTypes() []resource.Type {
	return []resource.Type{
		{
			Name: "AWS::EC2::Volume", Properties: &volumeProperties{}, Required: []string{"AvailabilityZone"},
			CreateOnly: []string{"AvailabilityZone", "Size", "VolumeType", "Iops", "Throughput", "Encrypted", "KmsKeyId"},
			Attributes: []string{"VolumeId"}, Handler: volumeHandler{kind{s}},
		},
		{
			Name: "AWS::EC2::EIP", Properties: &addressProperties{}, CreateOnly: []string{"Domain"},
			Attributes: []string{"AllocationId", "PublicIp"}, Handler: addressHandler{kind{s}},
		},
		{
			Name: "AWS::EC2::EIPAssociation", Properties: &associationProperties{}, Required: []string{"AllocationId", "InstanceId"},
			CreateOnly: []string{"AllocationId", "InstanceId"}, Attributes: []string{"Id"}, Handler: associationHandler{kind{s}},
		},
	}
}

type volumeHandler struct{ kind }

// Create implements resource.Handler.
func (h volumeHandler) Create(_ context.Context, r resource.Request) (string, error) {
	var properties volumeProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return "", err
	}
	own := properties.Tags
	properties.Tags = nil
	values := spread("", properties)
	values.Set("ClientToken", r.Token)
	tagSpecification(values, "volume", r, own)
	made, err := ask[volumeResponse](h.s, "CreateVolume", values)
	if err != nil {
		return "", err
	}
	return made.ID, nil
}

// Update implements resource.Handler.
func (h volumeHandler) Update(_ context.Context, id string, r resource.Request) error {
	var before, properties volumeProperties
	if err := errors.Join(resource.Decode(r.Before, &before), resource.Decode(r.Properties, &properties)); err != nil {
		return err
	}
	// Against what it was made of, so that an update that was refused can be rolled back.
	err := h.s.change(func(c *contents) error {
		v, err := c.volume(id)
		if err == nil && properties.SnapshotID != v.Snapshot {
			err = errors.New("the SnapshotId of a volume cannot be updated")
		}
		return err
	})
	if err != nil {
		return err
	}
	return h.s.retagResource(id, r, before.Tags, properties.Tags)
}

// Delete implements resource.Handler.
func (h volumeHandler) Delete(_ context.Context, id string, _ resource.Request) error {
	_, err := ask[done](h.s, "DeleteVolume", url.Values{"VolumeId": {id}})
	return removed(err)
}

// Snapshot implements resource.Snapshotter. The snapshot has the tags that the volume has.
func (h volumeHandler) Snapshot(_ context.Context, id string, r resource.Request) error {
	var properties volumeProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return err
	}
	values := url.Values{"VolumeId": {id}, "ClientToken": {r.Token}}
	tagSpecification(values, "snapshot", r, properties.Tags)
	_, err := ask[createSnapshotResponse](h.s, "CreateSnapshot", values)
	return removed(err)
}

// Attribute implements resource.Handler.
func (h volumeHandler) Attribute(_ context.Context, id, name string) (any, error) {
	if name != "VolumeId" {
		return nil, noAttribute(name)
	}
	return id, nil
}

// addressHandler's physical ID is the address itself, as CloudFormation's is.
type addressHandler struct{ kind }

// Create implements resource.Handler.
func (h addressHandler) Create(_ context.Context, r resource.Request) (string, error) {
	var properties addressProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return "", err
	}
	values := url.Values{"ClientToken": {r.Token}}
	if properties.Domain != "" {
		values.Set("Domain", properties.Domain)
	}
	tagSpecification(values, "elastic-ip", r, properties.Tags)
	made, err := ask[allocateResponse](h.s, "AllocateAddress", values)
	return made.IP, err
}

// allocation is the ID of an address's allocation.
func (h addressHandler) allocation(ip string) (string, error) {
	id := ""
	err := h.s.change(func(c *contents) error {
		for _, a := range c.Addresses {
			if a.IP == ip {
				id = a.ID
				return nil
			}
		}
		return resource.ErrNotFound
	})
	return id, err
}

// Update implements resource.Handler.
func (h addressHandler) Update(_ context.Context, ip string, r resource.Request) error {
	var before, properties addressProperties
	if err := errors.Join(resource.Decode(r.Before, &before), resource.Decode(r.Properties, &properties)); err != nil {
		return err
	}
	id, err := h.allocation(ip)
	if err != nil {
		return err
	}
	return h.s.retagResource(id, r, before.Tags, properties.Tags)
}

// Delete implements resource.Handler.
func (h addressHandler) Delete(_ context.Context, ip string, _ resource.Request) error {
	id, err := h.allocation(ip)
	if errors.Is(err, resource.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = ask[done](h.s, "ReleaseAddress", url.Values{"AllocationId": {id}})
	return removed(err)
}

// Attribute implements resource.Handler.
func (h addressHandler) Attribute(_ context.Context, ip, name string) (any, error) {
	id, err := h.allocation(ip)
	switch {
	case err != nil:
		return nil, err
	case name == "AllocationId":
		return id, nil
	case name == "PublicIp":
		return ip, nil
	}
	return nil, noAttribute(name)
}

type associationHandler struct{ kind }

// Create implements resource.Handler. What is associated already is found again.
func (h associationHandler) Create(_ context.Context, r resource.Request) (string, error) {
	var properties associationProperties
	if err := resource.Decode(r.Properties, &properties); err != nil {
		return "", err
	}
	made, err := ask[associateResponse](h.s, "AssociateAddress", spread("", properties))
	return made.ID, err
}

// Update implements resource.Handler: every property replaces the association.
func (associationHandler) Update(_ context.Context, id string, _ resource.Request) error {
	return fmt.Errorf("association %s has nothing to change", id)
}

// Delete implements resource.Handler.
func (h associationHandler) Delete(_ context.Context, id string, _ resource.Request) error {
	_, err := ask[done](h.s, "DisassociateAddress", url.Values{"AssociationId": {id}})
	return removed(err)
}

// Attribute implements resource.Handler.
func (h associationHandler) Attribute(_ context.Context, id, name string) (any, error) {
	if name != "Id" {
		return nil, noAttribute(name)
	}
	return id, nil
}
