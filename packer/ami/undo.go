package ami

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// undo removes resources of a build, the last first, and tells gone of each that is. It
// goes on past those that it cannot remove.
func (c *cloud) undo(ctx context.Context, build string, resources []journal.Resource, gone func(journal.Resource) error) error {
	var failures []error
	for _, resource := range slices.Backward(resources) {
		r, err := c.region(ctx, resource.Region)
		if err == nil {
			err = r.remove(ctx, build, resource)
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

// remove removes one resource. One without an id, whose making was never answered, is
// found by the build's tag.
func (r *region) remove(ctx context.Context, build string, resource journal.Resource) error {
	switch resource.Kind {
	case journal.Parameter:
		return r.restoreParameter(ctx, resource)
	case journal.Image:
		ids := []string{resource.ID}
		if resource.ID == "" {
			found, err := r.owned(ctx, filter("tag:"+tagBuild, build))
			if err != nil {
				return err
			}
			ids = nil
			for _, image := range found {
				ids = append(ids, aws.ToString(image.ImageId))
			}
		}
		for _, id := range ids {
			if err := r.removeImage(ctx, id, resource.Snapshots); err != nil {
				return err
			}
		}
		return nil
	case journal.Snapshot:
		ids := []string{resource.ID}
		if resource.ID == "" {
			found, err := r.snapshots(ctx, filter("tag:"+tagBuild, build))
			if err != nil {
				return err
			}
			ids = nil
			for _, snapshot := range found {
				ids = append(ids, aws.ToString(snapshot.SnapshotId))
			}
		}
		for _, id := range ids {
			if err := r.removeSnapshot(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("it is of the unknown kind %q", resource.Kind)
}

// removeImage deregisters an image and deletes its snapshots, those known and those that
// it has itself.
func (r *region) removeImage(ctx context.Context, id string, snapshots []string) error {
	image, ok, err := r.image(ctx, id)
	if err != nil {
		return err
	}
	if ok {
		snapshots = slices.Concat(snapshots, snapshotsOf(image))
		if _, err := call(ctx, r, r.ec2.DeregisterImage, &ec2.DeregisterImageInput{ImageId: aws.String(id)}); err != nil && !noImage(err) {
			return fmt.Errorf("deregister image %s: %w", id, err)
		}
	}
	slices.Sort(snapshots)
	for _, snapshot := range slices.Compact(snapshots) {
		if err := r.removeSnapshot(ctx, snapshot); err != nil {
			return err
		}
	}
	return nil
}

// removeSnapshot deletes a snapshot, waiting a while for EC2 to see that the image over it
// is gone.
func (r *region) removeSnapshot(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, consistent, fmt.Errorf("snapshot %s is still in use after %s", id, consistent))
	defer cancel()
	_, err := callClassified(ctx, r, r.ec2.DeleteSnapshot, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(id)}, func(err error) retry.Class {
		if retry.Code(err) == "InvalidSnapshot.InUse" {
			return retry.Throttled
		}
		return retry.Classify(err)
	})
	if err != nil && retry.Code(err) != "InvalidSnapshot.NotFound" {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}
