package ami

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// BuilderID marks artifacts of this post-processor.
const BuilderID = "ovenbird.ami"

// PostProcessor makes AMIs. It is a packer.PostProcessor.
type PostProcessor struct {
	config Config
	cloud  *cloud // nil: AWS, with the configuration's profile
}

// ConfigSpec describes the template's fields to Packer.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure checks the template.
func (p *PostProcessor) Configure(raws ...any) error { return p.config.prepare(raws...) }

// PostProcess makes an AMI of the artifact's disk. The disk is kept.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packersdk.Ui, source packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	artifact, err := p.run(ctx, ui, source)
	if err != nil {
		if retry.Denied(err) {
			err = fmt.Errorf("%w\nThe credentials lack a permission; cloudformation/policies/bake.json lists all that a bake needs", err)
		}
		return nil, true, false, err
	}
	return artifact, true, false, nil
}

func (p *PostProcessor) run(ctx context.Context, ui packersdk.Ui, source packersdk.Artifact) (*Artifact, error) {
	path, err := diskPath(source, p.config.Disk)
	if err != nil {
		return nil, err
	}
	disk, err := openDisk(path)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	aws := p.cloud
	if aws == nil {
		aws = newCloud(p.config.Profile)
	}
	b := &build{config: &p.config, ui: ui, cloud: aws, store: store(p.config.JournalDirectory), disk: disk, images: map[string]ec2types.Image{}, optionsIn: map[string]string{}}
	// Before the disk is hashed: a missing credential shows at once.
	if b.home, err = aws.region(ctx, p.config.Region); err != nil {
		return nil, err
	}
	if b.account, err = b.home.account(ctx); err != nil {
		return nil, err
	}
	if err := b.scan(ctx); err != nil {
		return nil, err
	}
	if err := b.fill(source); err != nil {
		return nil, err
	}
	made, err := b.publish(ctx)
	if err != nil {
		return nil, err
	}
	return b.artifact(made, source), nil
}

// fill fills in the template's variables and what follows from the disk.
func (b *build) fill(source packersdk.Artifact) (err error) {
	values := facts(source)
	values["Content"] = b.content[:12]
	if b.wish, err = b.config.render(values, time.Now()); err != nil {
		return err
	}
	const gib = 1 << 30
	b.wish.diskGiB = (b.blocks.DiskSize + gib - 1) / gib
	b.wish.volumeGiB = b.wish.diskGiB
	if b.config.VolumeSize != 0 {
		b.wish.volumeGiB = b.config.VolumeSize
	}
	if b.wish.volumeGiB < b.wish.diskGiB {
		return fmt.Errorf("volume_size: %d GiB are less than the disk's %d", b.wish.volumeGiB, b.wish.diskGiB)
	}
	signedWith, _ := source.State("secure_boot_certificate").(string)
	if b.wish.uefiData, err = b.config.uefiData(signedWith); err != nil {
		return err
	}
	home := map[string]string{b.home.name: b.config.KMSKeyID}
	if b.options, err = b.config.options(b.wish, with(b.config.RegionKMSKeyIDs, home)); err != nil {
		return err
	}
	for _, name := range b.regions() {
		key := b.config.key(name, b.home.name)
		if b.optionsIn[name], err = b.config.options(b.wish, map[string]string{name: key}); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) artifact(made []journal.Resource, source packersdk.Artifact) *Artifact {
	a := &Artifact{cloud: b.cloud, build: b.journal.Build().ID, made: made, images: map[string]string{}, home: b.home.name}
	for _, name := range b.regions() {
		image, _ := b.image(name)
		a.images[name] = aws.ToString(image.ImageId)
	}
	a.state = map[string]any{
		"content_sha256": b.content,
		"generated_data": source.State("generated_data"),
	}
	return a
}
