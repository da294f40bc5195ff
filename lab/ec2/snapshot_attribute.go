package ec2

import (
	"encoding/xml"
	"errors"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

// volumePermission is the one attribute of a snapshot that the lab's have.
const volumePermission = "createVolumePermission"

func (s Service) modifySnapshotAttribute(p *params) (any, error) {
	id := p.snapshotID("SnapshotId")
	attribute, operation := p.oneOf("Attribute", "", volumePermission), p.oneOf("OperationType", "", "add", "remove")
	var add, remove []catalog.Permission
	listed := p.permissions("UserId", "UserGroup", "", "")
	switch {
	case len(listed) > 0 && attribute == "":
		p.fail(invalid("MissingParameter", "The request must contain the parameter attribute"))
	case len(listed) > 0 && operation == "":
		p.fail(invalid("MissingParameter", "The request must contain the parameter operationType"))
	case operation == "add":
		add = listed
	case operation == "remove":
		remove = listed
	}
	for _, member := range p.members("CreateVolumePermission.Add") {
		add = append(add, p.permission(member))
	}
	for _, member := range p.members("CreateVolumePermission.Remove") {
		remove = append(remove, p.permission(member))
	}
	if len(add)+len(remove) == 0 {
		p.fail(invalid("InvalidParameterCombination", "No attributes specified."))
	}
	for _, permission := range slices.Concat(add, remove) {
		if err := checkPermission(permission); err != nil {
			p.fail(err)
		}
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	if snapshot, ok := s.Catalog.Snapshot(s.Plan.Region, id); ok {
		if err := mayShareSnapshot(snapshot, add); err != nil {
			return nil, err
		}
	}
	err := s.Catalog.ShareSnapshot(s.Plan.Region, id, add, remove)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, noSnapshot(id)
	}
	return doneWith(p, "ModifySnapshotAttribute"), err
}

// mayShareSnapshot refuses what nobody else could use.
func mayShareSnapshot(snapshot catalog.Snapshot, with []catalog.Permission) error {
	switch {
	case !snapshot.Encrypted || len(with) == 0:
		return nil
	case slices.Contains(with, catalog.Permission{Group: catalog.Everyone}):
		return invalid("InvalidParameter", "Encrypted snapshots can't be shared publicly: %s", snapshot.ID)
	case ownKey(snapshot.KMSKey):
		return invalid("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot: %s", snapshot.ID)
	}
	return nil
}

type describeSnapshotAttributeResponse struct {
	XMLName     xml.Name         `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSnapshotAttributeResponse"`
	RequestID   string           `xml:"requestId"`
	ID          string           `xml:"snapshotId"`
	Permissions []permissionItem `xml:"createVolumePermission>item"`
}

func (s Service) describeSnapshotAttribute(p *params) (any, error) {
	id := p.snapshotID("SnapshotId")
	p.required("Attribute")
	p.oneOf("Attribute", volumePermission)
	if err := p.done(); err != nil {
		return nil, err
	}
	snapshot, ok := s.Catalog.Snapshot(s.Plan.Region, id)
	if !ok {
		return nil, noSnapshot(id)
	}
	response := describeSnapshotAttributeResponse{RequestID: p.id, ID: id}
	for _, by := range snapshot.Permissions {
		response.Permissions = append(response.Permissions, permissionItem(by))
	}
	return response, nil
}
