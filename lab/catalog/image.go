package catalog

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Image is an AMI. Values are copies; their tags, devices and permissions are never
// changed.
type Image struct {
	ID           string            `json:"id"`
	Region       string            `json:"region"`
	Name         string            `json:"name"`
	Description  string            `json:"description,omitempty"`
	Architecture string            `json:"architecture"`
	BootMode     string            `json:"bootMode,omitempty"`
	ENA          bool              `json:"ena,omitempty"`
	TPM          string            `json:"tpm,omitempty"`      // "v2.0" or empty
	IMDS         string            `json:"imds,omitempty"`     // "v2.0" or empty
	UEFIData     []byte            `json:"uefiData,omitempty"` // variables of the firmware, as RegisterImage takes them
	RootDevice   string            `json:"rootDevice"`
	Devices      []Device          `json:"devices,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Permissions  []Permission      `json:"permissions,omitempty"` // who may launch it beside its owner
	Source       string            `json:"source,omitempty"`      // the image it was copied from
	SourceRegion string            `json:"sourceRegion,omitempty"`
	Token        string            `json:"token,omitempty"`
	Digest       string            `json:"digest,omitempty"` // of the request, to compare under the same token
	Created      time.Time         `json:"created"`
	Ready        time.Time         `json:"ready"` // when it becomes available
	Deprecated   time.Time         `json:"deprecated,omitzero"`

	// Disk and Size are those of an image that did not come from a snapshot.
	Disk string `json:"-"`
	Size int64  `json:"-"`
}

// Device is a volume that instances of an image get.
type Device struct {
	Name       string `json:"name"`
	Snapshot   string `json:"snapshot"`
	VolumeGiB  int64  `json:"volumeGiB"`
	Type       string `json:"type"`
	IOPS       int    `json:"iops,omitempty"`
	Throughput int    `json:"throughput,omitempty"`
	Keep       bool   `json:"keep,omitempty"` // after the instance is terminated
	Encrypted  bool   `json:"encrypted,omitempty"`
}

// Permission lets somebody launch an image, or use a snapshot; one field is set.
type Permission struct {
	User         string `json:"user,omitempty"` // account ID
	Group        string `json:"group,omitempty"`
	Organization string `json:"organization,omitempty"` // ARN
	Unit         string `json:"unit,omitempty"`         // ARN of an organizational unit
}

// Everyone is the group whose permission makes an image public.
const Everyone = "all"

// Permit is the permissions with some added and some removed. The list is left as it is.
func Permit(list, add, remove []Permission) []Permission {
	permitted := slices.Clone(list)
	for _, p := range add {
		if !slices.Contains(permitted, p) {
			permitted = append(permitted, p)
		}
	}
	return slices.DeleteFunc(permitted, func(p Permission) bool { return slices.Contains(remove, p) })
}

func (i Image) uses(snapshot string) bool {
	return slices.ContainsFunc(i.Devices, func(d Device) bool { return d.Snapshot == snapshot })
}

// Available tells whether instances can be made of it by now.
func (i Image) Available(now time.Time) bool { return !now.Before(i.Ready) }

// Public tells whether everyone may launch it.
func (i Image) Public() bool { return slices.Contains(i.Permissions, Permission{Group: Everyone}) }

// Bytes is how large the root volume is at least.
func (i Image) Bytes() int64 {
	for _, d := range i.Devices {
		if d.Name == i.RootDevice {
			return d.VolumeGiB << 30
		}
	}
	return i.Size
}

// NameTakenError names the image that has the name.
type NameTakenError struct{ Image string }

func (e *NameTakenError) Error() string { return "the name is taken by " + e.Image }

// SnapshotError names the snapshot that an image cannot be made of.
type SnapshotError struct {
	ID     string
	Status Status
	Err    error // ErrNotFound or ErrNotReady
}

func (e *SnapshotError) Error() string { return "snapshot " + e.ID + ": " + e.Err.Error() }
func (e *SnapshotError) Unwrap() error { return e.Err }

// Register makes an image of completed snapshots. A device without a size gets its
// snapshot's.
func (c *Catalog) Register(order Image) (Image, error) {
	now := c.Now().UTC()
	i := order
	err := c.change(func(r *record) error {
		if err := nameFree(r.Images, order); err != nil {
			return err
		}
		i.Devices = slices.Clone(order.Devices)
		for n := range i.Devices {
			d := &i.Devices[n]
			s, ok := c.find(i.Region, d.Snapshot, now)
			switch {
			case !ok:
				return &SnapshotError{ID: d.Snapshot, Err: ErrNotFound}
			case s.Status != Completed:
				return &SnapshotError{ID: d.Snapshot, Status: s.Status, Err: ErrNotReady}
			case d.VolumeGiB == 0:
				d.VolumeGiB = s.VolumeGiB
			case d.VolumeGiB < s.VolumeGiB:
				return ErrVolumeSize
			}
			d.Encrypted = s.Encrypted
		}
		i.ID, i.Created, i.Ready = newID("ami-0"), now, now.Add(c.Delays.Settle)
		r.Images = append(r.Images, i)
		return nil
	})
	return i, err
}

func nameFree(images []Image, order Image) error {
	for _, other := range images {
		if other.Region == order.Region && other.Name == order.Name {
			return &NameTakenError{Image: other.ID}
		}
	}
	return nil
}

// CopyImage begins a copy of an available image in order's region, with order's name,
// description, tags and token. With encrypt, or if the source is, the copy's snapshots are
// encrypted with the key. A copied token answers the copy that it made before.
func (c *Catalog) CopyImage(fromRegion, id string, order Image, encrypt bool, key string, snapshotTags map[string]string) (Image, error) {
	now := c.Now().UTC()
	i := order
	err := c.change(func(r *record) error {
		for _, earlier := range r.Images {
			if order.Token != "" && earlier.Token == order.Token && earlier.Region == order.Region {
				if earlier.Digest != order.Digest {
					return ErrTokenReused
				}
				i = earlier
				return nil
			}
		}
		of, ok := c.findImage(fromRegion, id)
		switch {
		case !ok || of.Disk != "":
			return ErrNotFound
		case !of.Available(now):
			return ErrNotReady
		}
		if err := nameFree(r.Images, order); err != nil {
			return err
		}
		i = of
		i.ID, i.Region, i.Name, i.Description, i.Tags = newID("ami-0"), order.Region, order.Name, order.Description, order.Tags
		i.Source, i.SourceRegion, i.Token, i.Digest = of.ID, of.Region, order.Token, order.Digest
		i.Permissions, i.Deprecated = nil, time.Time{}
		i.Created, i.Ready = now, now.Add(c.Delays.Settle)
		i.Devices = slices.Clone(of.Devices)
		for n := range i.Devices {
			d := &i.Devices[n]
			s, ok := c.find(fromRegion, d.Snapshot, now)
			if !ok {
				return &SnapshotError{ID: d.Snapshot, Err: ErrNotFound}
			}
			s, err := c.copy(s, Snapshot{
				Region: order.Region, Encrypted: encrypt, KMSKey: key, Tags: snapshotTags,
				Description: fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s.", i.ID, of.ID, s.ID),
			}, now)
			if err != nil {
				return err
			}
			r.Snapshots = append(r.Snapshots, s)
			d.Snapshot, d.Encrypted = s.ID, s.Encrypted
		}
		r.Images = append(r.Images, i)
		return nil
	})
	return i, err
}

// Deregister removes an image and answers the snapshots that it used.
func (c *Catalog) Deregister(region, id string) (snapshots []string, err error) {
	err = c.change(func(r *record) error {
		n := slices.IndexFunc(r.Images, func(i Image) bool { return i.ID == id && i.Region == region })
		if n < 0 {
			return ErrNotFound
		}
		for _, d := range r.Images[n].Devices {
			snapshots = append(snapshots, d.Snapshot)
		}
		r.Images = slices.Delete(r.Images, n, n+1)
		return nil
	})
	return snapshots, err
}

// ModifyImage changes an available image's record.
func (c *Catalog) ModifyImage(region, id string, how func(*Image) error) error {
	return c.change(func(r *record) error {
		n := slices.IndexFunc(r.Images, func(i Image) bool { return i.ID == id && i.Region == region })
		switch {
		case n < 0:
			return ErrNotFound
		case !r.Images[n].Available(c.Now()):
			return ErrNotReady
		}
		i := &r.Images[n]
		i.Tags = maps.Clone(i.Tags)
		return how(i)
	})
}

// Image finds an image.
func (c *Catalog) Image(region, id string) (Image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.findImage(region, id)
}

func (c *Catalog) findImage(region, id string) (Image, bool) {
	for _, i := range c.images(region) {
		if i.ID == id {
			return i, true
		}
	}
	return Image{}, false
}

// Images lists a region's images, the oldest first.
func (c *Catalog) Images(region string) []Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.images(region)
}

// images lists without the lock, which the caller holds.
func (c *Catalog) images(region string) []Image {
	var list []Image
	if c.Baked != nil && region == c.Regions[0] {
		list = c.Baked()
	}
	for _, i := range c.record.Images {
		if i.Region == region {
			list = append(list, i)
		}
	}
	return list
}

// Disk is what an instance of an image in the first region starts from: the path of its
// root volume's disk, which nobody writes to, and its firmware's variables, if it has any.
func (c *Catalog) Disk(id string) (path string, uefiData []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.findImage(c.Regions[0], id)
	if !ok {
		return "", nil, fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	if i.Disk != "" {
		return i.Disk, nil, nil
	}
	for _, d := range i.Devices {
		if d.Name == i.RootDevice {
			path = filepath.Join(c.snapshot(d.Snapshot), diskFile)
			if _, err := os.Stat(path); err != nil {
				return "", nil, fmt.Errorf("image %s: %w", id, err)
			}
			return path, i.UEFIData, nil
		}
	}
	return "", nil, errors.New("image " + id + " has no root volume")
}

// SharingAllowed tells whether images of the region may be made public.
func (c *Catalog) SharingAllowed(region string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.record.Sharing, region)
}

// AllowSharing decides that.
func (c *Catalog) AllowSharing(region string, allowed bool) error {
	return c.change(func(r *record) error {
		r.Sharing = slices.DeleteFunc(slices.Clone(r.Sharing), func(s string) bool { return s == region })
		if allowed {
			r.Sharing = append(r.Sharing, region)
		}
		return nil
	})
}

// Tag sets and removes tags of the snapshot or image with the ID. A key to remove with a
// value goes only if it has that value; nil is any.
func (c *Catalog) Tag(region, id string, set map[string]string, remove map[string]*string) error {
	return c.change(func(r *record) error {
		for n, s := range r.Snapshots {
			if s.ID != id || s.Region != region {
				continue
			}
			var err error
			r.Snapshots[n].Tags, err = retag(s.Tags, set, remove)
			return err
		}
		for n, i := range r.Images {
			if i.ID != id || i.Region != region {
				continue
			}
			var err error
			r.Images[n].Tags, err = retag(i.Tags, set, remove)
			return err
		}
		return ErrNotFound
	})
}

func retag(tags, set map[string]string, remove map[string]*string) (map[string]string, error) {
	now := map[string]string{}
	maps.Copy(now, tags)
	maps.Copy(now, set)
	for key, value := range remove {
		if had, ok := now[key]; ok && (value == nil || *value == had) {
			delete(now, key)
		}
	}
	if len(now) > maxTags {
		return nil, ErrTooManyTags
	}
	return now, nil
}
