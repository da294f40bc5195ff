package ami

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
	"github.com/ovenbird-dev/ovenbird/packer/progress"
)

// registration is the image that a node boots from: UEFI, ENA, a TPM 2.0, instance
// metadata with tokens only, and a gp3 volume.
func registration(w wish, snapshot string, marks map[string]string) *ec2.RegisterImageInput {
	in := &ec2.RegisterImageInput{
		Name:               aws.String(w.name),
		Architecture:       ec2types.ArchitectureValuesX8664,
		VirtualizationType: aws.String("hvm"),
		BootMode:           ec2types.BootModeValuesUefi,
		EnaSupport:         aws.Bool(true),
		ImdsSupport:        ec2types.ImdsSupportValuesV20,
		TpmSupport:         ec2types.TpmSupportValuesV20,
		RootDeviceName:     aws.String(w.rootDevice),
		BlockDeviceMappings: []ec2types.BlockDeviceMapping{{
			DeviceName: aws.String(w.rootDevice),
			Ebs: &ec2types.EbsBlockDevice{
				SnapshotId:          aws.String(snapshot),
				VolumeSize:          aws.Int32(int32(w.volumeGiB)),
				VolumeType:          ec2types.VolumeTypeGp3,
				DeleteOnTermination: aws.Bool(true),
			},
		}},
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeImage, Tags: tags(with(w.tags, marks))}},
	}
	if w.description != "" {
		in.Description = aws.String(w.description)
	}
	if w.uefiData != "" {
		in.UefiData = aws.String(w.uefiData)
	}
	return in
}

// register makes the image of the snapshot, or finds the one that a process made which did
// not live to hear of it.
func (b *build) register(ctx context.Context) error {
	if _, ok := b.image(b.home.name); ok {
		return nil
	}
	snapshot, _ := b.journal.Find(journal.Snapshot, b.home.name, "")
	image, asked := b.journal.Find(journal.Image, b.home.name, "")
	if !asked {
		image = journal.Resource{Kind: journal.Image, Region: b.home.name, Name: b.wish.name, Snapshots: []string{snapshot.ID}}
		if err := b.journal.Have(image); err != nil {
			return err
		}
	}
	return progress.Step(b.ui, "Registering "+b.wish.name, func() error {
		if image.ID == "" {
			id, err := b.registered(ctx, snapshot.ID, asked)
			if err != nil {
				return fmt.Errorf("register the image: %w", b.refused(image, asked, err))
			}
			image.ID = id
			if err := b.journal.Have(image); err != nil {
				return err
			}
		}
		found, err := b.home.available(ctx, image.ID, registers)
		if err != nil {
			return err
		}
		b.have(b.home, found)
		return nil
	})
}

func (b *build) registered(ctx context.Context, snapshot string, asked bool) (string, error) {
	out, err := create(ctx, b.home, b.home.ec2.RegisterImage, registration(b.wish, snapshot, b.marks(b.home.name)))
	if err == nil {
		return aws.ToString(out.ImageId), nil
	}
	if retry.Code(err) != "InvalidAMIName.Duplicate" || !asked && refusal(err) {
		return "", err
	}
	// A name is an image's client token: the one that has it may be ours. It may not be seen yet.
	for began := time.Now(); ; {
		found, failed := b.home.owned(ctx, filter("tag:"+tagBuild, b.journal.Build().ID), filter("name", b.wish.name))
		switch {
		case failed != nil:
			return "", errors.Join(err, failed)
		case len(found) == 1:
			return aws.ToString(found[0].ImageId), nil
		case time.Since(began) > b.home.visible:
			return "", err
		}
		if ended := retry.Sleep(ctx, b.home.poll); ended != nil {
			return "", errors.Join(err, ended)
		}
	}
}

// copy copies the image to the regions that have none, all at once.
func (b *build) copy(ctx context.Context) error {
	var to []string
	for _, name := range b.regions() {
		if _, ok := b.image(name); !ok {
			to = append(to, name)
		}
	}
	if len(to) == 0 {
		return nil
	}
	source, _ := b.image(b.home.name)
	return progress.Step(b.ui, "Copying to "+strings.Join(to, ", "), func() error {
		return b.everywhere(ctx, func(ctx context.Context, r *region) error {
			if !slices.Contains(to, r.name) {
				return nil
			}
			if err := b.copyTo(ctx, r, aws.ToString(source.ImageId)); err != nil {
				return fmt.Errorf("copy the image to %s: %w", r.name, err)
			}
			return nil
		})
	})
}

func (b *build) copyTo(ctx context.Context, r *region, source string) error {
	image, asked := b.journal.Find(journal.Image, r.name, "")
	if !asked {
		image = journal.Resource{Kind: journal.Image, Region: r.name, Name: b.wish.name, Token: uuid.NewString()}
		if err := b.journal.Have(image); err != nil {
			return err
		}
	}
	if image.ID == "" {
		in := &ec2.CopyImageInput{
			Name: aws.String(b.wish.name), ClientToken: aws.String(image.Token),
			SourceImageId: aws.String(source), SourceRegion: aws.String(b.home.name),
			TagSpecifications: []ec2types.TagSpecification{
				{ResourceType: ec2types.ResourceTypeImage, Tags: tags(with(b.wish.tags, b.marks(r.name)))},
				{ResourceType: ec2types.ResourceTypeSnapshot, Tags: tags(with(b.wish.snapshotTags, b.marks(r.name)))},
			},
		}
		if b.wish.description != "" {
			in.Description = aws.String(b.wish.description)
		}
		if b.config.Encrypt {
			in.Encrypted = aws.Bool(true)
			if key := b.config.key(r.name, b.home.name); key != "" {
				in.KmsKeyId = aws.String(key)
			}
		}
		out, err := create(ctx, r, r.ec2.CopyImage, in)
		if err != nil {
			return b.refused(image, asked, err)
		}
		image.ID = aws.ToString(out.ImageId)
		if err := b.journal.Have(image); err != nil {
			return err
		}
	}
	found, err := r.available(ctx, image.ID, copies)
	if err != nil {
		return err
	}
	image.Snapshots = snapshotsOf(found)
	b.have(r, found)
	return b.journal.Have(image)
}

// share sets in all regions who may use the image and how long it is offered.
func (b *build) share(ctx context.Context) error {
	return b.everywhere(ctx, func(ctx context.Context, r *region) error {
		image, _ := b.image(r.name)
		id := aws.ToString(image.ImageId)
		if permissions := b.config.permissions(); len(permissions) > 0 {
			_, err := call(ctx, r, r.ec2.ModifyImageAttribute, &ec2.ModifyImageAttributeInput{
				ImageId: aws.String(id), LaunchPermission: &ec2types.LaunchPermissionModifications{Add: permissions},
			})
			if err != nil {
				return fmt.Errorf("share image %s: %w", id, err)
			}
		}
		var users []ec2types.CreateVolumePermission
		for _, user := range b.config.SnapshotUsers {
			users = append(users, ec2types.CreateVolumePermission{UserId: aws.String(user)})
		}
		for _, snapshot := range snapshotsOf(image) {
			if len(users) == 0 {
				break
			}
			_, err := call(ctx, r, r.ec2.ModifySnapshotAttribute, &ec2.ModifySnapshotAttributeInput{
				SnapshotId: aws.String(snapshot), Attribute: ec2types.SnapshotAttributeNameCreateVolumePermission,
				CreateVolumePermission: &ec2types.CreateVolumePermissionModifications{Add: users},
			})
			if err != nil {
				return fmt.Errorf("share snapshot %s: %w", snapshot, err)
			}
		}
		if b.wish.deprecate.IsZero() {
			return nil
		}
		_, err := call(ctx, r, r.ec2.EnableImageDeprecation, &ec2.EnableImageDeprecationInput{
			ImageId: aws.String(id), DeprecateAt: aws.Time(b.wish.deprecate),
		})
		if err != nil {
			return fmt.Errorf("set when image %s is deprecated: %w", id, err)
		}
		return nil
	})
}

// permissions are who may launch the image.
func (c *Config) permissions() []ec2types.LaunchPermission {
	var all []ec2types.LaunchPermission
	for _, user := range c.AMIUsers {
		all = append(all, ec2types.LaunchPermission{UserId: aws.String(user)})
	}
	for _, arn := range c.AMIOrgARNs {
		all = append(all, ec2types.LaunchPermission{OrganizationArn: aws.String(arn)})
	}
	for _, arn := range c.AMIOUARNs {
		all = append(all, ec2types.LaunchPermission{OrganizationalUnitArn: aws.String(arn)})
	}
	if c.Public && c.PublicConfirmed {
		all = append(all, ec2types.LaunchPermission{Group: ec2types.PermissionGroupAll})
	}
	return all
}

// mark tags images and snapshots as finished, and with the user's tags: from here on they
// are not left over, and the next build of the same disk finds them.
func (b *build) mark(ctx context.Context) error {
	published := map[string]string{tagPublished: time.Now().UTC().Format(time.RFC3339)}
	return b.everywhere(ctx, func(ctx context.Context, r *region) error {
		image, _ := b.image(r.name)
		for _, to := range []struct {
			ids  []string
			tags map[string]string
		}{
			{snapshotsOf(image), b.wish.snapshotTags},
			{[]string{aws.ToString(image.ImageId)}, b.wish.tags},
		} {
			all := with(to.tags, published)
			if tagOf(image.Tags, tagPublished) != "" {
				all = to.tags // it was published before; only the user's tags may be new
			}
			if len(all) == 0 || len(to.ids) == 0 {
				continue
			}
			if _, err := call(ctx, r, r.ec2.CreateTags, &ec2.CreateTagsInput{Resources: to.ids, Tags: tags(all)}); err != nil {
				return fmt.Errorf("tag %s: %w", strings.Join(to.ids, ", "), err)
			}
		}
		return nil
	})
}
