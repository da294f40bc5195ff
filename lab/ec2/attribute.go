package ec2

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

var (
	accountID       = regexp.MustCompile(`^[0-9]{12}$`)
	organizationARN = regexp.MustCompile(`^arn:[a-z-]+:organizations::[0-9]{12}:organization/o-[a-z0-9]{10,32}$`)
	unitARN         = regexp.MustCompile(`^arn:[a-z-]+:organizations::[0-9]{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}$`)
)

// change is what ModifyImageAttribute asks for.
type change struct {
	add, remove []catalog.Permission
	description *string
	imds        string
}

func (s Service) modifyImageAttribute(p *params) (any, error) {
	id, c := p.imageID("ImageId"), p.change()
	if err := p.done(); err != nil {
		return nil, err
	}
	if i, ok := s.Catalog.Image(s.Plan.Region, id); ok {
		if err := s.mayShare(i, c.add); err != nil {
			return nil, err
		}
	}
	err := s.modify(id, func(i *catalog.Image) error {
		i.Permissions = catalog.Permit(i.Permissions, c.add, c.remove)
		if c.description != nil {
			i.Description = *c.description
		}
		if c.imds != "" {
			i.IMDS = c.imds
		}
		return nil
	})
	return doneWith(p, "ModifyImageAttribute"), err
}

// change reads what is to change, in either of the two forms that EC2 takes.
func (p *params) change() change {
	var c change
	attribute := p.oneOf("Attribute", "", "launchPermission", "description", "imdsSupport")
	operation := p.oneOf("OperationType", "", "add", "remove")
	listed := p.permissions("UserId", "UserGroup", "OrganizationArn", "OrganizationalUnitArn")
	value := p.text("Value")
	switch {
	case attribute == "launchPermission" && operation == "add":
		c.add = listed
	case attribute == "launchPermission" && operation == "remove":
		c.remove = listed
	case len(listed) > 0 || operation != "":
		p.fail(invalid("InvalidParameterCombination", "Users, groups and organizations need the attribute launchPermission and an operation type"))
	case attribute == "description":
		c.description = &value
	case attribute == "imdsSupport":
		c.imds = value
	}
	for _, member := range p.members("LaunchPermission.Add") {
		c.add = append(c.add, p.permission(member))
	}
	for _, member := range p.members("LaunchPermission.Remove") {
		c.remove = append(c.remove, p.permission(member))
	}
	if p.has("Description.Value") {
		text := p.text("Description.Value")
		c.description = &text
	}
	if p.has("ImdsSupport.Value") {
		c.imds = p.text("ImdsSupport.Value")
	}
	if c.imds != "" && c.imds != "v2.0" {
		p.fail(invalid("InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for imdsSupport item type.", c.imds))
	}
	if len(c.add)+len(c.remove) == 0 && c.description == nil && c.imds == "" {
		p.fail(invalid("InvalidParameterCombination", "No attributes specified."))
	}
	for _, permission := range slices.Concat(c.add, c.remove) {
		if err := checkPermission(permission); err != nil {
			p.fail(err)
		}
	}
	return c
}

// permission reads a member of LaunchPermission.
func (p *params) permission(member string) catalog.Permission {
	permission := catalog.Permission{
		User: p.text(member + ".UserId"), Group: p.text(member + ".Group"),
		Organization: p.text(member + ".OrganizationArn"), Unit: p.text(member + ".OrganizationalUnitArn"),
	}
	given := 0
	for _, text := range []string{permission.User, permission.Group, permission.Organization, permission.Unit} {
		if text != "" {
			given++
		}
	}
	if given != 1 {
		p.fail(invalid("InvalidParameterCombination", "A launch permission names one user, group, organization or organizational unit"))
	}
	return permission
}

// permissions reads the lists of the older form.
func (p *params) permissions(users, groups, organizations, units string) []catalog.Permission {
	var list []catalog.Permission
	for _, user := range p.list(users) {
		list = append(list, catalog.Permission{User: user})
	}
	for _, group := range p.list(groups) {
		list = append(list, catalog.Permission{Group: group})
	}
	if organizations == "" {
		return list
	}
	for _, arn := range p.list(organizations) {
		list = append(list, catalog.Permission{Organization: arn})
	}
	for _, arn := range p.list(units) {
		list = append(list, catalog.Permission{Unit: arn})
	}
	return list
}

// checkPermission refuses who cannot exist.
func checkPermission(by catalog.Permission) error {
	for _, item := range []struct {
		kind, value string
		ok          func(string) bool
	}{
		{"userId", by.User, accountID.MatchString},
		{"group", by.Group, func(group string) bool { return group == catalog.Everyone }},
		{"organizationArn", by.Organization, organizationARN.MatchString},
		{"organizationalUnitArn", by.Unit, unitARN.MatchString},
	} {
		if item.value != "" && !item.ok(item.value) {
			return invalid("InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for %s item type.", item.value, item.kind)
		}
	}
	return nil
}

// mayShare refuses what nobody else could use, and what is not to be public.
func (s Service) mayShare(i catalog.Image, with []catalog.Permission) error {
	if len(with) == 0 {
		return nil
	}
	public := slices.Contains(with, catalog.Permission{Group: catalog.Everyone})
	if public && !s.Catalog.SharingAllowed(s.Plan.Region) {
		return invalid("OperationNotPermitted", "You can't publicly share this image because block public access for AMIs is enabled for this account in %s.", s.Plan.Region)
	}
	for _, d := range i.Devices {
		snapshot, _ := s.Catalog.Snapshot(s.Plan.Region, d.Snapshot)
		if err := mayShareSnapshot(snapshot, with); err != nil {
			return err
		}
	}
	return nil
}

// ownKey tells whether a key is the one that AWS keeps for the account.
func ownKey(arn string) bool { return arn == "" || strings.HasSuffix(arn, ":alias/aws/ebs") }

// modify changes an image that is available.
func (s Service) modify(id string, how func(*catalog.Image) error) error {
	if i, ok := s.Catalog.Image(s.Plan.Region, id); ok && i.Disk != "" {
		return invalid("OperationNotPermitted", "The image %s was registered by `ovenbird-lab up` and cannot be changed.", id)
	}
	err := s.Catalog.ModifyImage(s.Plan.Region, id, how)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return noImage(id)
	case errors.Is(err, catalog.ErrNotReady):
		return invalid("InvalidAMIID.Unavailable", "The image ID '%s' is not available", id)
	}
	return err
}

type describeImageAttributeResponse struct {
	XMLName     xml.Name         `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeImageAttributeResponse"`
	RequestID   string           `xml:"requestId"`
	ID          string           `xml:"imageId"`
	Description *attributeValue  `xml:"description"`
	BootMode    *attributeValue  `xml:"bootMode"`
	TPM         *attributeValue  `xml:"tpmSupport"`
	IMDS        *attributeValue  `xml:"imdsSupport"`
	UEFIData    *attributeValue  `xml:"uefiData"`
	Permissions []permissionItem `xml:"launchPermission>item,omitempty"`
	Devices     []imageDevice    `xml:"blockDeviceMapping>item,omitempty"`
}

type attributeValue struct {
	Value string `xml:"value"`
}

type permissionItem struct {
	User         string `xml:"userId,omitempty"`
	Group        string `xml:"group,omitempty"`
	Organization string `xml:"organizationArn,omitempty"`
	Unit         string `xml:"organizationalUnitArn,omitempty"`
}

func (s Service) describeImageAttribute(p *params) (any, error) {
	id := p.imageID("ImageId")
	attribute := p.required("Attribute")
	p.oneOf("Attribute", "description", "launchPermission", "blockDeviceMapping", "bootMode", "tpmSupport", "imdsSupport", "uefiData")
	if err := p.done(); err != nil {
		return nil, err
	}
	i, ok := s.Catalog.Image(s.Plan.Region, id)
	if !ok {
		return nil, noImage(id)
	}
	response := describeImageAttributeResponse{RequestID: p.id, ID: id}
	switch attribute {
	case "description":
		response.Description = &attributeValue{i.Description}
	case "bootMode":
		response.BootMode = &attributeValue{i.BootMode}
	case "tpmSupport":
		response.TPM = &attributeValue{i.TPM}
	case "imdsSupport":
		response.IMDS = &attributeValue{i.IMDS}
	case "uefiData":
		response.UEFIData = &attributeValue{base64.StdEncoding.EncodeToString(i.UEFIData)}
	case "launchPermission":
		for _, by := range i.Permissions {
			response.Permissions = append(response.Permissions, permissionItem(by))
		}
	case "blockDeviceMapping":
		response.Devices = s.imageItem(i).Devices
	}
	return response, nil
}
