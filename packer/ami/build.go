package ami

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/uuid"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/sync/errgroup"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// build is one run of the post-processor.
type build struct {
	config *Config
	ui     packersdk.Ui
	cloud  *cloud
	store  store

	account string
	home    *region
	disk    *os.File
	blocks  blocks.Map
	content string
	wish    wish

	options   string            // of the build
	optionsIn map[string]string // of the image in each region

	journal *journal.Journal

	mu     sync.Mutex
	images map[string]ec2types.Image // by region: those that are there and available
}

// publish makes the image be in all regions as wished. On an error it removes what it made.
func (b *build) publish(ctx context.Context) (made []journal.Resource, err error) {
	if err := b.find(ctx); err != nil {
		return nil, err
	}
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.clear(ctx))
			return
		}
		made = b.journal.Resources()
		if err = b.journal.Remove(); err == nil {
			b.remember()
		}
	}()
	for _, step := range []func(context.Context) error{b.snapshot, b.register, b.copy, b.share, b.mark, b.announce} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// regions are where the image is to be, home first.
func (b *build) regions() []string {
	all := []string{b.home.name}
	for _, name := range b.config.AMIRegions {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// everywhere runs work in all regions at once.
func (b *build) everywhere(ctx context.Context, work func(context.Context, *region) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range b.regions() {
		group.Go(func() error {
			r, err := b.cloud.region(ctx, name)
			if err != nil {
				return err
			}
			return work(ctx, r)
		})
	}
	return group.Wait()
}

// find looks in all regions for an image of the same disk and options that an earlier
// build has finished, and, where there is none, whether the name is free.
func (b *build) find(ctx context.Context) error {
	return b.everywhere(ctx, func(ctx context.Context, r *region) error {
		if !b.config.PackerForce {
			found, err := r.owned(ctx, filter("tag:"+tagContent, b.content), filter("tag:"+tagOptions, b.optionsIn[r.name]), filter("tag-key", tagPublished))
			if err != nil {
				return err
			}
			// The oldest, so that all who look choose the same.
			slices.SortFunc(found, func(a, b ec2types.Image) int {
				return slices.Compare([]byte(aws.ToString(a.CreationDate)), []byte(aws.ToString(b.CreationDate)))
			})
			for _, image := range found {
				if image.State == ec2types.ImageStateAvailable {
					b.have(r, image)
					b.ui.Say(fmt.Sprintf("%s has this disk already: %s (%s); tags and permissions are added to it, none are withdrawn", r.name, aws.ToString(image.ImageId), aws.ToString(image.Name)))
					return nil
				}
			}
		}
		return nil
	})
}

func (b *build) have(r *region, image ec2types.Image) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images[r.name] = image
}

func (b *build) image(region string) (ec2types.Image, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	image, ok := b.images[region]
	return image, ok
}

// open opens the journal, and goes on with the build in it or clears it away.
func (b *build) open(ctx context.Context) (err error) {
	b.journal, err = journal.Open(b.store.journal(b.account, b.home.name, b.content))
	if err != nil {
		return err
	}
	before := b.journal.Build()
	image, found := b.image(b.home.name)
	// A build that was killed after it marked its images has them found.
	if before.ID != "" && before.Options == b.options && (!found || tagOf(image.Tags, tagBuild) == before.ID) {
		b.ui.Say("Going on with the build of this disk that was interrupted " + time.Since(before.Begun).Round(time.Second).String() + " ago")
		b.wish.name = before.Name
		return nil
	}
	if before.ID != "" {
		b.ui.Say("Removing what an interrupted build of this disk has left")
		if err := b.undo(ctx); err != nil {
			return errors.Join(err, b.journal.Close())
		}
		maps.DeleteFunc(b.images, func(_ string, image ec2types.Image) bool { return tagOf(image.Tags, tagBuild) == before.ID })
	}
	if err := b.nameIsFree(ctx); err != nil {
		return errors.Join(err, b.journal.Remove())
	}
	return b.journal.Begin(journal.Build{
		ID: uuid.NewString(), Account: b.account, Region: b.home.name, Profile: b.config.Profile, Content: b.content,
		Options: b.options, Name: b.wish.name, Map: b.blocks.Path, Begun: time.Now().UTC().Round(time.Second),
	})
}

// nameIsFree fails before the upload where RegisterImage or CopyImage would after it.
func (b *build) nameIsFree(ctx context.Context) error {
	return b.everywhere(ctx, func(ctx context.Context, r *region) error {
		if _, ok := b.image(r.name); ok {
			return nil
		}
		found, err := r.owned(ctx, filter("name", b.wish.name))
		if err != nil || len(found) == 0 {
			return err
		}
		return fmt.Errorf("ami_name: %s has an image named %q already (%s); put {{timestamp}} into the name, or deregister that image", r.name, b.wish.name, aws.ToString(found[0].ImageId))
	})
}

// clear removes what the build has made, also when it was cancelled.
func (b *build) clear(ctx context.Context) error {
	if len(b.journal.Resources()) == 0 {
		return errors.Join(b.journal.Remove(), b.store.forget(b.blocks.Path))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearing)
	defer cancel()
	b.ui.Say("Removing what this build has made at AWS")
	if err := b.undo(ctx); err != nil {
		return errors.Join(fmt.Errorf("%w; run `ovenbird-image sweep --region %s` to try again", err, b.home.name), b.journal.Close())
	}
	return errors.Join(b.journal.Remove(), b.store.forget(b.blocks.Path))
}

// refused drops a resource that AWS has plainly refused to make: nobody need look for it.
// One that was asked for before may be there all the same.
func (b *build) refused(r journal.Resource, asked bool, err error) error {
	if asked || !refusal(err) {
		return err
	}
	return errors.Join(err, b.journal.Gone(r))
}

// refusal tells whether AWS has refused to make something and has not made it before.
func refusal(err error) bool {
	return retry.Code(err) != "" && retry.Classify(err) == retry.Permanent && !errors.Is(err, retry.ErrUnsure)
}

func (b *build) undo(ctx context.Context) error {
	return b.cloud.undo(ctx, b.journal.Build().ID, b.journal.Resources(), b.journal.Gone)
}

// marks are the tags by which the build's things in a region are found again.
func (b *build) marks(region string) map[string]string {
	return map[string]string{tagBuild: b.journal.Build().ID, tagContent: b.content, tagOptions: b.optionsIn[region]}
}

// with adds one map to another.
func with(a, b map[string]string) map[string]string {
	both := map[string]string{}
	maps.Copy(both, a)
	maps.Copy(both, b)
	return both
}
