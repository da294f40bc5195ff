package ec2

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

var (
	volumeID   = regexp.MustCompile(`^vol-[0-9a-f]{8,17}$`)
	deviceName = regexp.MustCompile(`^/dev/(sd[b-z]|xvd[b-z]|xvd[b-d][a-z]|sd[b-z][1-9])$`)
)

// volume is an EBS volume that was made by itself. Those of instances are the fleet's, and
// so is which instance a volume is attached to. That it is encrypted is recorded and shown;
// its disk in the lab is not.
type volume struct {
	ID       string            `json:"id"`
	Zone     string            `json:"zone"`
	GiB      int               `json:"gib"`
	Kind     fleet.VolumeKind  `json:"kind"`
	Created  time.Time         `json:"created"`
	Snapshot string            `json:"snapshot,omitempty"` // that it was made of
	Tags     map[string]string `json:"tags,omitempty"`
	Request  tokenOf           `json:"request,omitzero"`
}

func (c *contents) volume(id string) (*volume, error) {
	if !volumeID.MatchString(id) {
		return nil, invalid("InvalidParameterValue", "Value (%s) for parameter volumeId is invalid. Expected: 'vol-...'.", id)
	}
	for _, v := range c.Volumes {
		if v.ID == id {
			return v, nil
		}
	}
	return nil, invalid("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
}

type volumeAttachment struct {
	Volume   string `xml:"volumeId"`
	Instance string `xml:"instanceId"`
	Device   string `xml:"device"`
	Status   string `xml:"status"`
	At       string `xml:"attachTime"`
	Delete   bool   `xml:"deleteOnTermination"`
}

type volumeItem struct {
	ID          string             `xml:"volumeId"`
	GiB         int                `xml:"size"`
	Snapshot    string             `xml:"snapshotId"`
	Zone        string             `xml:"availabilityZone"`
	Status      string             `xml:"status"`
	Created     string             `xml:"createTime"`
	Attachments []volumeAttachment `xml:"attachmentSet>item"`
	Tags        []tag              `xml:"tagSet>item"`
	Type        string             `xml:"volumeType"`
	IOPS        int                `xml:"iops,omitempty"`
	Throughput  int                `xml:"throughput,omitempty"`
	Encrypted   bool               `xml:"encrypted"`
	KMSKey      string             `xml:"kmsKeyId,omitempty"`
	MultiAttach bool               `xml:"multiAttachEnabled"`
}

func volumeItemOf(id, zone string, gib int, kind fleet.VolumeKind, created time.Time, tags map[string]string) volumeItem {
	return volumeItem{
		ID: id, Zone: zone, GiB: gib, Status: "available", Created: created.Format(timeFormat), Tags: tagItems(tags),
		Type: kind.Type, IOPS: kind.IOPS, Throughput: kind.Throughput, Encrypted: kind.Encrypted, KMSKey: kind.KMSKey,
	}
}

func (v *volume) item(attached map[string]volumeAttachment) volumeItem {
	item := volumeItemOf(v.ID, v.Zone, v.GiB, v.Kind, v.Created, v.Tags)
	item.Snapshot = v.Snapshot
	if a, ok := attached[v.ID]; ok {
		item.Status, item.Attachments = "in-use", []volumeAttachment{a}
	}
	return item
}

func attachmentOf(i fleet.Instance, v fleet.Volume) volumeAttachment {
	return volumeAttachment{Volume: v.ID, Instance: i.ID, Device: v.Device, Status: string(v.State), At: v.Time.Format(timeFormat)}
}

// attachments are where the volumes that were made by themselves are attached, by their ID.
func (s Service) attachments() map[string]volumeAttachment {
	all := map[string]volumeAttachment{}
	for _, i := range s.Fleet.Instances() {
		for _, v := range i.Volumes {
			if i.HasAddress() {
				all[v.ID] = attachmentOf(i, v)
			}
		}
	}
	return all
}

// rootVolume is what an instance starts from, which lives as long as it.
func rootVolume(i fleet.Instance) volumeItem {
	item := volumeItemOf(i.VolumeID, i.Zone, i.VolumeGiB, i.Volume, i.LaunchTime, i.VolumeTags)
	item.Status = "in-use"
	item.Attachments = []volumeAttachment{{Volume: i.VolumeID, Instance: i.ID, Device: i.Device(), Status: "attached", At: i.LaunchTime.Format(timeFormat), Delete: true}}
	return item
}

type volumeResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CreateVolumeResponse"`
	RequestID string   `xml:"requestId"`
	volumeItem
}

func (s Service) createVolume(p *params) (any, error) {
	made := &volume{ID: newID("vol-0"), Zone: p.required("AvailabilityZone"), Created: s.now(), Request: p.token(), Tags: p.tags("volume")["volume"]}
	of := s.snapshotOf(p)
	made.Snapshot, made.GiB = of.ID, p.integer("Size", int(of.VolumeGiB))
	made.Kind = p.volumeKind("", "Size", made.GiB)
	if int64(made.GiB) < of.VolumeGiB {
		p.fail(invalid("InvalidParameterValue", "The volume size is invalid for a snapshot of %d GiB: %d GiB.", of.VolumeGiB, made.GiB))
	}
	if of.Encrypted {
		made.Kind.Encrypted, made.Kind.KMSKey = true, cmp.Or(made.Kind.KMSKey, of.KMSKey)
	}
	if made.Kind.Encrypted && made.Kind.KMSKey == "" {
		made.Kind.KMSKey = fmt.Sprintf("arn:%s:kms:%s:%s:alias/aws/ebs", s.Plan.Partition, s.Plan.Region, s.Plan.Account)
	}
	p.oneOf("MultiAttachEnabled", "false")
	if made.Zone != "" && !slices.ContainsFunc(s.Plan.Zones(), func(z vpc.Zone) bool { return z.Name == made.Zone }) {
		p.fail(invalid("InvalidZone.NotFound", "The zone '%s' does not exist.", made.Zone))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := volumeResponse{RequestID: p.id, volumeItem: made.item(nil)}
	response.Status = "creating"
	err := s.change(func(c *contents) error {
		for _, v := range c.Volumes {
			if again, err := made.Request.again(v.Request); again || err != nil {
				response.volumeItem = v.item(s.attachments())
				return err
			}
		}
		if made.Snapshot != "" {
			if err := s.Catalog.Restore(of, s.Fleet.VolumeDisk(made.ID)); err != nil {
				return err
			}
		}
		c.Volumes = append(c.Volumes, made)
		return nil
	})
	return response, err
}

// snapshotOf is the snapshot that a volume is to be made of, if any. Without one it needs a size.
func (s Service) snapshotOf(p *params) catalog.Snapshot {
	if !p.has("SnapshotId") {
		p.required("Size")
		return catalog.Snapshot{}
	}
	id := p.snapshotID("SnapshotId")
	of, ok := s.Catalog.Snapshot(s.Plan.Region, id)
	switch {
	case id == "":
	case !ok:
		p.fail(noSnapshot(id))
	case of.Status != catalog.Completed:
		p.fail(invalid("IncorrectState", "Snapshot %s is in invalid state - %s", id, of.Status))
	}
	return of
}

type describeVolumesResponse struct {
	XMLName   xml.Name     `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeVolumesResponse"`
	RequestID string       `xml:"requestId"`
	Volumes   []volumeItem `xml:"volumeSet>item"`
	NextToken string       `xml:"nextToken,omitempty"`
}

func (s Service) describeVolumes(p *params) (any, error) {
	ids, filters := p.list("VolumeId"), p.filters()
	limit, after := p.page(len(ids) > 0, "volumeIdSet")
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []volumeItem
	err := s.change(func(c *contents) error {
		attached := s.attachments()
		for _, v := range c.Volumes {
			all = append(all, v.item(attached))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() {
			all = append(all, rootVolume(i))
		}
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(v volumeItem) bool { return v.ID == id }) {
			return nil, noResource(id)
		}
	}
	all = slices.DeleteFunc(all, func(v volumeItem) bool { return len(ids) > 0 && !slices.Contains(ids, v.ID) })
	attachment := func(value func(volumeAttachment) string) func(volumeItem) []string {
		return func(v volumeItem) []string {
			var values []string
			for _, a := range v.Attachments {
				values = append(values, value(a))
			}
			return values
		}
	}
	all, err = choose(all, filters, attributes[volumeItem]{
		"volume-id":              one(func(v volumeItem) string { return v.ID }),
		"availability-zone":      one(func(v volumeItem) string { return v.Zone }),
		"status":                 one(func(v volumeItem) string { return v.Status }),
		"size":                   one(func(v volumeItem) string { return fmt.Sprint(v.GiB) }),
		"volume-type":            one(func(v volumeItem) string { return v.Type }),
		"encrypted":              one(func(v volumeItem) string { return fmt.Sprint(v.Encrypted) }),
		"attachment.instance-id": attachment(func(a volumeAttachment) string { return a.Instance }),
		"attachment.device":      attachment(func(a volumeAttachment) string { return a.Device }),
		"attachment.status":      attachment(func(a volumeAttachment) string { return a.Status }),
	}, func(v volumeItem) map[string]string { return tagMap(v.Tags) })
	response := describeVolumesResponse{RequestID: p.id}
	response.Volumes, response.NextToken = cut(all, limit, after, func(v volumeItem) string { return v.ID })
	return response, err
}

type attachmentResponse struct {
	XMLName   xml.Name
	RequestID string `xml:"requestId"`
	volumeAttachment
}

func (s Service) attachVolume(p *params) (any, error) {
	id, instance, device := p.required("VolumeId"), p.required("InstanceId"), p.required("Device")
	if device != "" && !deviceName.MatchString(device) {
		p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", device, device))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := wellFormed([]string{instance}); err != nil {
		return nil, err
	}
	response := attachmentResponse{XMLName: doneWith(p, "AttachVolume").XMLName, RequestID: p.id}
	err := s.change(func(c *contents) error {
		v, err := c.volume(id)
		if err != nil {
			return err
		}
		if _, attached := s.attachments()[id]; attached {
			return invalid("VolumeInUse", "%s is already attached to an instance", id)
		}
		i, err := s.instanceFor(instance)
		if err != nil {
			return err
		}
		if i.Zone != v.Zone {
			return invalid("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", id, instance)
		}
		i, err = s.Fleet.Attach(instance, fleet.Volume{ID: id, Device: device, GiB: v.GiB})
		var state *fleet.StateError
		switch {
		case errors.As(err, &state):
			return invalid("IncorrectState", "Instance '%s' is not 'running' or 'stopped', but '%s'.", instance, state.State)
		case errors.Is(err, fleet.ErrDeviceInUse):
			return invalid("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
		case errors.Is(err, fleet.ErrNoSlots):
			return invalid("AttachmentLimitExceeded", "The instance '%s' has as many volumes as the lab attaches to one", instance)
		case err != nil:
			return err
		}
		response.volumeAttachment = s.attachments()[id]
		return nil
	})
	return response, err
}

func (s Service) instanceFor(id string) (fleet.Instance, error) {
	for _, i := range s.Fleet.Instances() {
		if i.ID == id {
			return i, nil
		}
	}
	return fleet.Instance{}, notFound([]string{id})
}

func (s Service) detachVolume(p *params) (any, error) {
	id, instance, device := p.required("VolumeId"), p.text("InstanceId"), p.text("Device")
	p.oneOf("Force", "false") // a guest that does not let go keeps it
	if err := p.done(); err != nil {
		return nil, err
	}
	response := attachmentResponse{XMLName: doneWith(p, "DetachVolume").XMLName, RequestID: p.id}
	err := s.change(func(c *contents) error {
		for _, i := range s.Fleet.Instances() {
			if i.VolumeID == id && i.HasAddress() {
				return invalid("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", id, i.ID)
			}
		}
		if _, err := c.volume(id); err != nil {
			return err
		}
		a, attached := s.attachments()[id]
		switch {
		case !attached:
			return invalid("IncorrectState", "Volume '%s' is in the 'available' state.", id)
		case instance != "" && instance != a.Instance, device != "" && device != a.Device:
			return invalid("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'", id, instance, device)
		}
		response.volumeAttachment = a
		response.Status = string(fleet.Detaching)
		if err := s.Fleet.Detach(a.Instance, id); err != nil {
			return fmt.Errorf("detach %s: %w", id, err)
		}
		return nil
	})
	return response, err
}

func (s Service) deleteVolume(p *params) (any, error) {
	id := p.required("VolumeId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteVolume"), s.change(func(c *contents) error {
		v, err := c.volume(id)
		if err != nil {
			return err
		}
		if a, attached := s.attachments()[id]; attached {
			return invalid("VolumeInUse", "Volume %s is currently attached to %s", id, a.Instance)
		}
		if err := s.Fleet.RemoveVolume(id); err != nil {
			return err
		}
		c.Volumes = slices.DeleteFunc(c.Volumes, func(other *volume) bool { return other == v })
		return nil
	})
}

// blockDevices are an instance's volumes, the root's first.
func blockDevices(i fleet.Instance, launched string) []blockDevice {
	all := []blockDevice{{Name: i.Device(), EBS: ebs{VolumeID: i.VolumeID, Status: "attached", AttachTime: launched, DeleteOnTermination: true}}}
	for _, v := range i.Volumes {
		all = append(all, blockDevice{Name: v.Device, EBS: ebs{VolumeID: v.ID, Status: string(v.State), AttachTime: v.Time.Format(timeFormat)}})
	}
	return all
}
