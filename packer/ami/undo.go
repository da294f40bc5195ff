package ami

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// undo removes resources of a build, the last first, and tells gone of each that is. It
// goes on past those that it cannot remove.
func (c *cloud) undo(ctx context.Context, build string, resources []journal.Resource, gone func(journal.Resource) error) error {
	var failures []error
	deleted := map[string]bool{}
	for _, resource := range slices.Backward(resources) {
		r, err := c.region(ctx, resource.Region)
		if err == nil {
			err = removal{r, resource, build, deleted}.remove(ctx)
		}
		if err == nil {
			err = gone(resource)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("remove the %s of this build in %s: %w", resource.Kind, resource.Region, err))
		}
	}
	return errors.Join(failures...)
}

// removal is the removal of one resource.
type removal struct {
	*region
	journal.Resource
	build   string
	deleted map[string]bool // snapshots that are gone already
}

// remove removes the resource. One without an id, whose making was never answered, is
// found by the build's tag.
func (r removal) remove(ctx context.Context) error {
	switch r.Kind {
	case journal.Parameter:
		return r.restoreParameter(ctx, r.Resource)
	case journal.Image, journal.Snapshot:
		ids, err := r.ids(ctx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if r.Kind == journal.Image {
				err = r.removeImage(ctx, id)
			} else {
				err = r.removeSnapshot(ctx, id)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("it is of the unknown kind %q", r.Kind)
}

// isNew tells whether EC2 may not know the resource yet.
func (r removal) isNew() bool { return time.Since(r.Time) < r.visible }

// ids are the resource's id, or those of all of its kind that carries the build's tag.
func (r removal) ids(ctx context.Context) ([]string, error) {
	if r.ID != "" {
		return []string{r.ID}, nil
	}
	if r.Kind == journal.Image {
		return r.tagged(ctx, r.taggedImages)
	}
	return r.tagged(ctx, r.taggedSnapshots)
}

// tagged lists what carries the build's tag: for a while nothing may.
func (r removal) tagged(ctx context.Context, list func(context.Context) ([]string, error)) ([]string, error) {
	for began := time.Now(); ; {
		ids, err := list(ctx)
		if err != nil || len(ids) > 0 || !r.isNew() || time.Since(began) > r.visible/4 {
			return ids, err
		}
		if err := retry.Sleep(ctx, r.poll); err != nil {
			return nil, err
		}
	}
}

func (r removal) taggedImages(ctx context.Context) (ids []string, err error) {
	found, err := r.owned(ctx, filter("tag:"+tagBuild, r.build))
	for _, image := range found {
		ids = append(ids, aws.ToString(image.ImageId))
	}
	return ids, err
}

func (r removal) taggedSnapshots(ctx context.Context) (ids []string, err error) {
	found, err := r.snapshots(ctx, filter("tag:"+tagBuild, r.build))
	for _, snapshot := range found {
		ids = append(ids, aws.ToString(snapshot.SnapshotId))
	}
	return ids, err
}

// removeImage deregisters an image and deletes its snapshots: those known, those that it
// has itself, and those that carry the build's tag, as a copy in the making names none.
func (r removal) removeImage(ctx context.Context, id string) error {
	image, ok, err := r.image(ctx, id)
	for err == nil && !ok && r.isNew() {
		if err := retry.Sleep(ctx, r.poll); err != nil {
			return err
		}
		image, ok, err = r.image(ctx, id)
	}
	if err != nil {
		return err
	}
	snapshots := r.Snapshots
	if ok {
		snapshots = slices.Concat(snapshots, snapshotsOf(image))
		if _, err := call(ctx, r.region, r.ec2.DeregisterImage, &ec2.DeregisterImageInput{ImageId: aws.String(id)}); err != nil && !noImage(err) {
			return fmt.Errorf("deregister image %s: %w", id, err)
		}
	}
	tagged, err := r.tagged(ctx, r.taggedSnapshots)
	if err != nil {
		return err
	}
	snapshots = slices.Concat(snapshots, tagged)
	slices.Sort(snapshots)
	for _, snapshot := range slices.Compact(snapshots) {
		if err := r.removeSnapshot(ctx, snapshot); err != nil {
			return err
		}
	}
	return nil
}

// removeSnapshot deletes a snapshot. It waits a while for EC2 to know a new one, and to see
// that the image over it is gone.
func (r removal) removeSnapshot(ctx context.Context, id string) error {
	if r.deleted[id] {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.visible, fmt.Errorf("snapshot %s is still in use after %s", id, r.visible))
	defer cancel()
	settling := func(err error) retry.Class {
		switch code := retry.Code(err); {
		case code == "InvalidSnapshot.InUse", code == "InvalidSnapshot.NotFound" && r.isNew():
			return retry.Throttled
		}
		return retry.Classify(err)
	}
	_, err := callAs(ctx, r.region, retry.Call{Classify: settling}, r.ec2.DeleteSnapshot, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(id)})
	if err != nil && retry.Code(err) != "InvalidSnapshot.NotFound" {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	r.deleted[id] = true
	return nil
}
