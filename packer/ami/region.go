package ami

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
	"github.com/ovenbird-dev/ovenbird/packer/ami/upload"
)

// How long things take at most. AWS gives no figures; these are several times what its
// users report.
const (
	signingIn  = 30 * time.Second
	registers  = 15 * time.Minute
	copies     = 2 * time.Hour
	checks     = 2 * time.Minute // until SSM has checked a parameter of an image
	clearing   = 5 * time.Minute
	consistent = 2 * time.Minute // until all of EC2 knows what was just made or removed
)

// region is AWS in one region.
type region struct {
	name      string
	ec2       *ec2.Client
	ebs       *ebs.Client
	ssm       *ssm.Client
	sts       *sts.Client
	retry     retry.Policy
	poll      time.Duration // between looks at what takes time
	visible   time.Duration // until all of EC2 knows what was just made or removed
	announces time.Duration // until SSM has checked a parameter of an image
}

// cloud finds the regions with one profile's credentials.
type cloud struct {
	profile   string
	retry     retry.Policy
	poll      time.Duration
	visible   time.Duration
	announces time.Duration

	mu      sync.Mutex
	regions map[string]*region
}

func newCloud(profile string) *cloud {
	return &cloud{profile: profile, retry: retry.Default, poll: 2 * time.Second, visible: consistent, announces: checks, regions: map[string]*region{}}
}

// region connects to a region; "" is the one of the AWS configuration.
func (c *cloud) region(ctx context.Context, name string) (*region, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.regions[name]; ok {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, signingIn)
	defer cancel()
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(retry.SDKOff),
		config.WithHTTPClient(httpClient()),
	}
	if c.profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.profile))
	}
	if name != "" {
		options = append(options, config.WithRegion(name))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return nil, errors.New("region: must be set, here or in AWS_REGION or in the profile")
	}
	if _, err := loaded.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("find AWS credentials: %w; try `aws sts get-caller-identity`, which looks in the same places", err)
	}
	r := &region{
		name: loaded.Region, retry: c.retry, poll: c.poll, visible: c.visible, announces: c.announces,
		ec2: ec2.NewFromConfig(loaded), ebs: ebs.NewFromConfig(loaded), ssm: ssm.NewFromConfig(loaded), sts: sts.NewFromConfig(loaded),
	}
	c.regions[name], c.regions[r.name] = r, r
	return r, nil
}

// httpClient keeps as many connections as blocks are sent at once, each block on its own:
// HTTP/2 would put them all on one.
func httpClient() aws.HTTPClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, mostConcurrency
		t.ForceAttemptHTTP2 = false
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		t.WriteBufferSize, t.ReadBufferSize = 32<<10, 4<<10
	})
}

// uploader uploads to the region.
func (r *region) uploader(most int) upload.Uploader {
	return upload.Uploader{Writer: r.ebs, Describer: r.ec2, Retry: r.retry, Most: most, Poll: r.poll}
}

// call makes one call of an SDK client with the policy of all calls.
func call[I, O, T any](ctx context.Context, r *region, do func(context.Context, *I, ...func(*T)) (*O, error), in *I) (*O, error) {
	return callAs(ctx, r, retry.Call{}, do, in)
}

// create is call for what makes something: it is not cut off when ctx ends.
func create[I, O, T any](ctx context.Context, r *region, do func(context.Context, *I, ...func(*T)) (*O, error), in *I) (*O, error) {
	return callAs(ctx, r, retry.Call{Finish: true}, do, in)
}

func callAs[I, O, T any](ctx context.Context, r *region, how retry.Call, do func(context.Context, *I, ...func(*T)) (*O, error), in *I) (*O, error) {
	var out *O
	how.Try = func(ctx context.Context) (err error) {
		out, err = do(ctx, in)
		return err
	}
	if err := r.retry.Do(ctx, how); err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return out, nil
}

// account is the account that the credentials are of.
func (r *region) account(ctx context.Context) (string, error) {
	out, err := call(ctx, r, r.sts.GetCallerIdentity, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("ask whose the credentials are: %w", err)
	}
	return aws.ToString(out.Account), nil
}

// owned lists the account's own images that match the filters.
func (r *region) owned(ctx context.Context, filters ...ec2types.Filter) ([]ec2types.Image, error) {
	in := &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filters, IncludeDeprecated: aws.Bool(true)}
	var all []ec2types.Image
	for {
		out, err := call(ctx, r, r.ec2.DescribeImages, in)
		if err != nil {
			return nil, fmt.Errorf("look for images: %w", err)
		}
		all = append(all, out.Images...)
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// snapshots lists the account's own snapshots that match the filters.
func (r *region) snapshots(ctx context.Context, filters ...ec2types.Filter) ([]ec2types.Snapshot, error) {
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: filters}
	var all []ec2types.Snapshot
	for {
		out, err := call(ctx, r, r.ec2.DescribeSnapshots, in)
		if err != nil {
			return nil, fmt.Errorf("look for snapshots: %w", err)
		}
		all = append(all, out.Snapshots...)
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func filter(name string, values ...string) ec2types.Filter {
	return ec2types.Filter{Name: aws.String(name), Values: values}
}

// image describes one image; ok tells whether there is one.
func (r *region) image(ctx context.Context, id string) (found ec2types.Image, ok bool, err error) {
	out, err := call(ctx, r, r.ec2.DescribeImages, &ec2.DescribeImagesInput{ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true)})
	if err != nil {
		if noImage(err) {
			return ec2types.Image{}, false, nil
		}
		return ec2types.Image{}, false, fmt.Errorf("look at image %s: %w", id, err)
	}
	if len(out.Images) == 0 {
		return ec2types.Image{}, false, nil
	}
	return out.Images[0], true, nil
}

// available waits until an image can be used.
func (r *region) available(ctx context.Context, id string, limit time.Duration) (ec2types.Image, error) {
	began := time.Now()
	for {
		image, ok, err := r.image(ctx, id)
		waited := time.Since(began)
		switch {
		case err != nil:
			return image, err
		case !ok && waited > r.visible:
			return image, fmt.Errorf("image %s is not in %s", id, r.name)
		case ok && image.State == ec2types.ImageStateAvailable:
			return image, nil
		case ok && image.State != ec2types.ImageStatePending:
			why := ""
			if image.StateReason != nil {
				why = ": " + aws.ToString(image.StateReason.Message)
			}
			return image, fmt.Errorf("image %s in %s is %s%s", id, r.name, image.State, why)
		case waited > limit:
			return image, fmt.Errorf("image %s in %s is still %s after %s", id, r.name, image.State, limit)
		}
		if err := retry.Sleep(ctx, r.poll); err != nil {
			return image, err
		}
	}
}

func noImage(err error) bool {
	switch retry.Code(err) {
	case "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable":
		return true
	}
	return false
}

// snapshotsOf are the snapshots that an image's volumes are made from.
func snapshotsOf(image ec2types.Image) []string {
	var ids []string
	for _, device := range image.BlockDeviceMappings {
		if device.Ebs != nil && aws.ToString(device.Ebs.SnapshotId) != "" {
			ids = append(ids, *device.Ebs.SnapshotId)
		}
	}
	return ids
}

// Tags that Ovenbird sets.
const (
	tagPrefix    = "ovenbird.dev/"
	tagBuild     = tagPrefix + "build"          // the build that made it
	tagContent   = tagPrefix + "content-sha256" // of the disk's block map
	tagOptions   = tagPrefix + "options-sha256" // of what else decides an image
	tagPublished = tagPrefix + "published"      // when its build was done; without it, it is left over or in the making
)

func tagOf(tags []ec2types.Tag, key string) string {
	for _, tag := range tags {
		if aws.ToString(tag.Key) == key {
			return aws.ToString(tag.Value)
		}
	}
	return ""
}

func tags(of map[string]string) []ec2types.Tag {
	var all []ec2types.Tag
	for _, key := range slices.Sorted(maps.Keys(of)) { // CopyImage has a client token too
		all = append(all, ec2types.Tag{Key: aws.String(key), Value: aws.String(of[key])})
	}
	return all
}
