package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

type describeImagesResponse struct {
	XMLName   xml.Name    `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeImagesResponse"`
	RequestID string      `xml:"requestId"`
	Images    []imageItem `xml:"imagesSet>item"`
	NextToken string      `xml:"nextToken,omitempty"`
}

type imageItem struct {
	ID                 string        `xml:"imageId"`
	Location           string        `xml:"imageLocation"`
	State              string        `xml:"imageState"`
	Owner              string        `xml:"imageOwnerId"`
	Created            string        `xml:"creationDate"`
	Public             bool          `xml:"isPublic"`
	Architecture       string        `xml:"architecture"`
	Kind               string        `xml:"imageType"`
	Platform           string        `xml:"platformDetails"`
	Usage              string        `xml:"usageOperation"`
	ENA                bool          `xml:"enaSupport"`
	Name               string        `xml:"name"`
	Description        string        `xml:"description,omitempty"`
	RootDeviceType     string        `xml:"rootDeviceType"`
	RootDevice         string        `xml:"rootDeviceName"`
	Devices            []imageDevice `xml:"blockDeviceMapping>item"`
	VirtualizationType string        `xml:"virtualizationType"`
	Hypervisor         string        `xml:"hypervisor"`
	BootMode           string        `xml:"bootMode,omitempty"`
	TPM                string        `xml:"tpmSupport,omitempty"`
	IMDS               string        `xml:"imdsSupport,omitempty"`
	Deprecation        string        `xml:"deprecationTime,omitempty"`
	Source             string        `xml:"sourceImageId,omitempty"`
	SourceRegion       string        `xml:"sourceImageRegion,omitempty"`
	Tags               []tag         `xml:"tagSet>item"`
}

type imageDevice struct {
	Name string   `xml:"deviceName"`
	EBS  imageEBS `xml:"ebs"`
}

type imageEBS struct {
	Snapshot            string `xml:"snapshotId,omitempty"`
	VolumeGiB           int64  `xml:"volumeSize"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
	Type                string `xml:"volumeType"`
	IOPS                int    `xml:"iops,omitempty"`
	Throughput          int    `xml:"throughput,omitempty"`
	Encrypted           bool   `xml:"encrypted"`
}

func noImage(id string) error {
	return invalid("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
}

func malformedImage(id string) error {
	return invalid("InvalidAMIID.Malformed", `Invalid id: "%s" (expecting "ami-...")`, id)
}

// imageID reads an image's ID; empty when it is malformed or missing.
func (p *params) imageID(name string) string {
	id := p.required(name)
	if id != "" && !imageID.MatchString(id) {
		p.fail(malformedImage(id))
		return ""
	}
	return id
}

func (s Service) describeImages(p *params) (any, error) {
	ids, filters := p.list("ImageId"), p.filters()
	owned, executable := s.mine(p.list("Owner")), p.list("ExecutableBy")
	// They decide about other accounts' images only: an owner sees all of its own.
	p.boolean("IncludeDeprecated")
	p.boolean("IncludeDisabled")
	limit, after := p.page(len(ids) > 0, "imagesSet")
	if err := p.done(); err != nil {
		return nil, err
	}
	all := s.Catalog.Images(s.Plan.Region)
	for _, id := range ids {
		if !imageID.MatchString(id) {
			return nil, malformedImage(id)
		}
		if !slices.ContainsFunc(all, func(i catalog.Image) bool { return i.ID == id }) {
			return nil, noImage(id)
		}
	}
	var items []imageItem
	for _, i := range all {
		if owned && (len(ids) == 0 || slices.Contains(ids, i.ID)) && (len(executable) == 0 || s.launchable(i, executable)) {
			items = append(items, s.imageItem(i))
		}
	}
	items, err := choose(items, filters, imageAttributes(), func(v imageItem) map[string]string { return tagMap(v.Tags) })
	response := describeImagesResponse{RequestID: p.id}
	response.Images, response.NextToken = cut(items, limit, after, func(v imageItem) string { return v.Created + v.ID })
	return response, err
}

// launchable tells whether one of the users has an explicit permission; "all" is the
// public's.
func (s Service) launchable(i catalog.Image, users []string) bool {
	return slices.ContainsFunc(i.Permissions, func(by catalog.Permission) bool {
		return by.Group == catalog.Everyone && slices.Contains(users, "all") ||
			by.User != "" && (slices.Contains(users, by.User) || by.User == s.Plan.Account && slices.Contains(users, "self"))
	})
}

func imageAttributes() attributes[imageItem] {
	return attributes[imageItem]{
		"architecture":        one(func(v imageItem) string { return v.Architecture }),
		"boot-mode":           one(func(v imageItem) string { return v.BootMode }),
		"creation-date":       one(func(v imageItem) string { return v.Created }),
		"description":         one(func(v imageItem) string { return v.Description }),
		"ena-support":         one(func(v imageItem) string { return fmt.Sprint(v.ENA) }),
		"hypervisor":          one(func(v imageItem) string { return v.Hypervisor }),
		"image-id":            one(func(v imageItem) string { return v.ID }),
		"image-type":          one(func(v imageItem) string { return v.Kind }),
		"is-public":           one(func(v imageItem) string { return fmt.Sprint(v.Public) }),
		"name":                one(func(v imageItem) string { return v.Name }),
		"owner-id":            one(func(v imageItem) string { return v.Owner }),
		"root-device-name":    one(func(v imageItem) string { return v.RootDevice }),
		"root-device-type":    one(func(v imageItem) string { return v.RootDeviceType }),
		"source-image-id":     one(func(v imageItem) string { return v.Source }),
		"source-image-region": one(func(v imageItem) string { return v.SourceRegion }),
		"state":               one(func(v imageItem) string { return v.State }),
		"virtualization-type": one(func(v imageItem) string { return v.VirtualizationType }),
		"block-device-mapping.snapshot-id": func(v imageItem) []string {
			var ids []string
			for _, d := range v.Devices {
				ids = append(ids, d.EBS.Snapshot)
			}
			return ids
		},
	}
}

func (s Service) imageItem(i catalog.Image) imageItem {
	v := imageItem{
		ID: i.ID, Location: s.Plan.Account + "/" + i.Name, State: "available", Owner: s.Plan.Account,
		Created: i.Created.Format(timeFormat), Public: i.Public(), Architecture: i.Architecture, Kind: "machine",
		Platform: "Linux/UNIX", Usage: "RunInstances", ENA: i.ENA, Name: i.Name, Description: i.Description,
		RootDeviceType: "ebs", RootDevice: i.RootDevice, VirtualizationType: "hvm", Hypervisor: "xen",
		BootMode: i.BootMode, TPM: i.TPM, IMDS: i.IMDS, Source: i.Source, SourceRegion: i.SourceRegion, Tags: tagItems(i.Tags),
	}
	if !i.Available(s.Catalog.Now()) {
		v.State = "pending"
	}
	if !i.Deprecated.IsZero() {
		v.Deprecation = i.Deprecated.UTC().Format(timeFormat)
	}
	for _, d := range i.Devices {
		if v.State == "pending" && i.Source != "" {
			d.Snapshot = "" // a copy in the making does not name it
		}
		v.Devices = append(v.Devices, imageDevice{d.Name, imageEBS{
			Snapshot: d.Snapshot, VolumeGiB: d.VolumeGiB, DeleteOnTermination: !d.Keep, Type: d.Type,
			IOPS: d.IOPS, Throughput: d.Throughput, Encrypted: d.Encrypted,
		}})
	}
	if len(i.Devices) == 0 {
		gib := (i.Size + 1<<30 - 1) >> 30
		v.Devices = []imageDevice{{i.RootDevice, imageEBS{VolumeGiB: gib, DeleteOnTermination: true, Type: "gp3"}}}
	}
	return v
}

type deregisterImageResponse struct {
	XMLName   xml.Name              `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DeregisterImageResponse"`
	RequestID string                `xml:"requestId"`
	Return    bool                  `xml:"return"`
	Deleted   []deleteSnapshotEntry `xml:"deleteSnapshotResultSet>item,omitempty"`
}

type deleteSnapshotEntry struct {
	ID   string `xml:"snapshotId"`
	Code string `xml:"returnCode"`
}

func (s Service) deregisterImage(p *params) (any, error) {
	id, withSnapshots := p.imageID("ImageId"), p.boolean("DeleteAssociatedSnapshots")
	if err := p.done(); err != nil {
		return nil, err
	}
	if i, ok := s.Catalog.Image(s.Plan.Region, id); ok && i.Disk != "" {
		return nil, invalid("OperationNotPermitted", "The image %s was registered by `ovenbird-lab up`, which also drops it.", id)
	}
	snapshots, err := s.Catalog.Deregister(s.Plan.Region, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, noImage(id)
	}
	if err != nil {
		return nil, err
	}
	response := deregisterImageResponse{RequestID: p.id, Return: true}
	if !withSnapshots {
		return response, nil
	}
	for _, snapshot := range snapshots {
		err := s.Catalog.DeleteSnapshot(s.Plan.Region, snapshot)
		code := "success"
		var used *catalog.InUseError
		switch {
		case errors.As(err, &used):
			code = "skipped"
		case errors.Is(err, catalog.ErrNotFound):
			code = "client-error"
		case err != nil:
			return nil, err
		}
		response.Deleted = append(response.Deleted, deleteSnapshotEntry{snapshot, code})
	}
	return response, nil
}

// timestamp reads a time as EC2 takes it.
func (p *params) timestamp(name string) time.Time {
	text := p.required(name)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil && text != "" {
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for %s. Expected a time such as 2030-01-31T00:00:00Z.", text, name))
	}
	return at
}
