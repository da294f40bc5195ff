package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

type describeSnapshotsResponse struct {
	XMLName   xml.Name       `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSnapshotsResponse"`
	RequestID string         `xml:"requestId"`
	Snapshots []snapshotItem `xml:"snapshotSet>item"`
	NextToken string         `xml:"nextToken,omitempty"`
}

type snapshotItem struct {
	ID          string `xml:"snapshotId"`
	VolumeID    string `xml:"volumeId"`
	Status      string `xml:"status"`
	Message     string `xml:"statusMessage,omitempty"`
	Start       string `xml:"startTime"`
	Completion  string `xml:"completionTime,omitempty"`
	Progress    string `xml:"progress"`
	Owner       string `xml:"ownerId"`
	VolumeGiB   int64  `xml:"volumeSize"`
	Description string `xml:"description"`
	Encrypted   bool   `xml:"encrypted"`
	KMSKey      string `xml:"kmsKeyId,omitempty"`
	Tier        string `xml:"storageTier"`
	Tags        []tag  `xml:"tagSet>item"`
}

func noSnapshot(id string) error {
	return invalid("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
}

// snapshotID reads a snapshot's ID; empty when it is malformed or missing.
func (p *params) snapshotID(name string) string {
	id := p.required(name)
	if id != "" && !snapshotID.MatchString(id) {
		p.fail(malformedSnapshot(id))
		return ""
	}
	return id
}

func malformedSnapshot(id string) error {
	return invalid("InvalidSnapshotID.Malformed", "Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id)
}

// mine tells whether a list of owners, or of users, asks for what the account has.
func (s Service) mine(owners []string) bool {
	return len(owners) == 0 || slices.Contains(owners, "self") || slices.Contains(owners, s.Plan.Account)
}

func (s Service) describeSnapshots(p *params) (any, error) {
	ids, filters := p.list("SnapshotId"), p.filters()
	owned := s.mine(p.list("Owner"))
	owned = s.mine(p.list("RestorableBy")) && owned
	limit, after := p.page(len(ids) > 0, "snapshotIdSet")
	if err := p.done(); err != nil {
		return nil, err
	}
	all := s.Catalog.Snapshots(s.Plan.Region)
	for _, id := range ids {
		if !snapshotID.MatchString(id) {
			return nil, malformedSnapshot(id)
		}
		if !slices.ContainsFunc(all, func(s catalog.Snapshot) bool { return s.ID == id }) {
			return nil, noSnapshot(id)
		}
	}
	all = slices.DeleteFunc(all, func(s catalog.Snapshot) bool {
		return !owned || len(ids) > 0 && !slices.Contains(ids, s.ID)
	})
	var items []snapshotItem
	for _, snapshot := range all {
		items = append(items, s.snapshotItem(snapshot))
	}
	items, err := choose(items, filters, attributes[snapshotItem]{
		"snapshot-id":  one(func(v snapshotItem) string { return v.ID }),
		"status":       one(func(v snapshotItem) string { return v.Status }),
		"description":  one(func(v snapshotItem) string { return v.Description }),
		"owner-id":     one(func(v snapshotItem) string { return v.Owner }),
		"progress":     one(func(v snapshotItem) string { return v.Progress }),
		"start-time":   one(func(v snapshotItem) string { return v.Start }),
		"storage-tier": one(func(v snapshotItem) string { return v.Tier }),
		"volume-id":    one(func(v snapshotItem) string { return v.VolumeID }),
		"volume-size":  one(func(v snapshotItem) string { return fmt.Sprint(v.VolumeGiB) }),
		"encrypted":    one(func(v snapshotItem) string { return fmt.Sprint(v.Encrypted) }),
	}, func(v snapshotItem) map[string]string { return tagMap(v.Tags) })
	response := describeSnapshotsResponse{RequestID: p.id}
	response.Snapshots, response.NextToken = cut(items, limit, after, func(v snapshotItem) string { return v.Start + v.ID })
	return response, err
}

func (s Service) snapshotItem(of catalog.Snapshot) snapshotItem {
	v := snapshotItem{
		ID: of.ID, VolumeID: of.VolumeID, Status: string(of.Status), Message: of.Message, Start: of.Started.Format(timeFormat),
		Progress: "100%", Owner: s.Plan.Account, VolumeGiB: of.VolumeGiB, Description: of.Description,
		Encrypted: of.Encrypted, Tier: "standard", Tags: tagItems(of.Tags),
	}
	if v.VolumeID == "" {
		v.VolumeID = "vol-ffffffff" // what snapshots have that were not made of a volume
	}
	switch of.Status {
	case catalog.Pending, catalog.Sealed:
		v.Status, v.Progress = string(catalog.Pending), "0%"
	case catalog.Completed:
		v.Completion = of.Ready.Format(timeFormat)
	case catalog.Failed:
		v.Progress = "0%"
	}
	if of.Encrypted {
		v.KMSKey = s.key(of.KMSKey)
	}
	return v
}

// key is the ARN of a customer's key, or of the one that AWS keeps for the account.
func (s Service) key(arn string) string {
	if arn != "" {
		return arn
	}
	return fmt.Sprintf("arn:%s:kms:%s:%s:key/00000000-0000-4000-8000-aaaaaaaaaeb5", s.Plan.Partition, s.Plan.Region, s.Plan.Account)
}

func tagItems(tags map[string]string) []tag {
	var items []tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		items = append(items, tag{Key: key, Value: tags[key]})
	}
	return items
}

type createSnapshotResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CreateSnapshotResponse"`
	RequestID string   `xml:"requestId"`
	snapshotItem
}

// createSnapshot takes a snapshot of a volume that was made by itself and that no machine writes
// to.
func (s Service) createSnapshot(p *params) (any, error) {
	id := p.required("VolumeId")
	order := catalog.Snapshot{Region: s.Plan.Region, VolumeID: id, Description: p.text("Description"), Tags: p.tags("snapshot")["snapshot"]}
	if p.internal {
		order.Token = p.text("ClientToken")
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := createSnapshotResponse{RequestID: p.id}
	err := s.change(func(c *contents) error { // nobody attaches it meanwhile
		for _, i := range s.Fleet.Instances() {
			if i.VolumeID == id && i.HasAddress() {
				return invalid("UnsupportedOperation", "The lab takes no snapshots of root volumes: %s is that of %s.", id, i.ID)
			}
			attached := slices.ContainsFunc(i.Volumes, func(v fleet.Volume) bool { return v.ID == id })
			if attached && i.HasAddress() && i.State != fleet.Stopped {
				return invalid("UnsupportedOperation", "The lab takes no snapshots of volumes that are written to: stop %s, or detach %s from it.", i.ID, id)
			}
		}
		v, err := c.volume(id)
		if err != nil {
			return err
		}
		order.VolumeGiB, order.Encrypted = int64(v.GiB), v.Kind.Encrypted
		if !ownKey(v.Kind.KMSKey) {
			order.KMSKey = v.Kind.KMSKey
		}
		made, err := s.Catalog.Capture(order, s.Fleet.VolumeDisk(id))
		response.snapshotItem = s.snapshotItem(made)
		return err
	})
	return response, err
}

func (s Service) deleteSnapshot(p *params) (any, error) {
	id := p.snapshotID("SnapshotId")
	if err := p.done(); err != nil {
		return nil, err
	}
	err := s.Catalog.DeleteSnapshot(s.Plan.Region, id)
	var used *catalog.InUseError
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil, noSnapshot(id)
	case errors.As(err, &used):
		return nil, invalid("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", id, used.Image)
	}
	return doneWith(p, "DeleteSnapshot"), err
}
