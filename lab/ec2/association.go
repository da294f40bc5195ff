package ec2

import (
	"encoding/xml"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

type associated struct {
	XMLName   xml.Name
	RequestID string `xml:"requestId"`
	ID        string `xml:"associationId,omitempty"`
	New       string `xml:"newAssociationId,omitempty"`
	State     string `xml:"associationState>state"`
}

func associatedWith(p *params, action string) associated {
	return associated{XMLName: xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: action + "Response"}, RequestID: p.id, State: "associated"}
}

func (s Service) associateRouteTable(p *params) (any, error) {
	table, subnet := p.required("RouteTableId"), p.required("SubnetId")
	if err := p.done(); err != nil {
		return nil, err
	}
	var err error
	response := associatedWith(p, "AssociateRouteTable")
	response.ID, err = s.associateTable(table, subnet, "")
	return response, err
}

func (s Service) associateTable(table, subnetID, token string) (id string, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		t, subnet := r.RouteTable(table), r.Subnet(subnetID)
		switch {
		case t == nil:
			return noRouteTable(table)
		case subnet == nil:
			return noSubnet(subnetID)
		case subnet.VPCID != t.VPCID:
			return invalid("InvalidParameterValue", "Route table %s and subnet %s belong to different networks", table, subnetID)
		}
		for _, other := range r.RouteTables {
			for _, a := range other.Associations {
				switch {
				case a.SubnetID != subnetID:
				case other.ID == table && token != "" && a.Token == token:
					id = a.ID
					return nil
				default:
					return invalid("Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", table)
				}
			}
		}
		id = vpc.NewID("rtbassoc")
		t.Associations = append(t.Associations, vpc.Association{ID: id, SubnetID: subnetID, Token: token})
		return nil
	})
	return id, err
}

func (s Service) disassociateRouteTable(p *params) (any, error) {
	id := p.required("AssociationId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DisassociateRouteTable"), s.disassociateTable(id)
}

func (s Service) disassociateTable(id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		t, a := r.Association(id)
		switch {
		case a == nil:
			return noAssociation(id)
		case a.Main:
			return invalid("InvalidParameterValue", "cannot disassociate the main route table association %s", id)
		}
		t.Associations = slices.DeleteFunc(t.Associations, func(a vpc.Association) bool { return a.ID == id })
		return nil
	})
}

func noAssociation(id string) error {
	return invalid("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", id)
}

func (s Service) replaceAssociation(p *params) (any, error) {
	id, table := p.required("AssociationId"), p.required("RouteTableId")
	if err := p.done(); err != nil {
		return nil, err
	}
	var err error
	response := associatedWith(p, "ReplaceRouteTableAssociation")
	response.New, err = s.moveAssociation(id, vpc.NewID("rtbassoc"), table)
	return response, err
}

// moveAssociation makes a subnet, or the VPC for its main table, use another table. The
// association has another ID then.
func (s Service) moveAssociation(id, next, table string) (made string, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		from, a := r.Association(id)
		to := r.RouteTable(table)
		switch {
		case a == nil:
			return noAssociation(id)
		case to == nil:
			return noRouteTable(table)
		case to.VPCID != from.VPCID:
			return invalid("InvalidParameterValue", "Route tables %s and %s belong to different networks", from.ID, table)
		}
		moved := *a
		moved.ID = next
		from.Associations = slices.DeleteFunc(from.Associations, func(a vpc.Association) bool { return a.ID == id })
		to.Associations = append(to.Associations, moved)
		made = moved.ID
		return nil
	})
	return made, err
}
