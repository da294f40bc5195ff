package ami

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// announce tells each region's image in its SSM parameter. It is last: from here on people
// launch the image.
func (b *build) announce(ctx context.Context) error {
	if b.wish.parameter == "" {
		return nil
	}
	return b.everywhere(ctx, func(ctx context.Context, r *region) error {
		image, _ := b.image(r.name)
		id := aws.ToString(image.ImageId)
		before, err := r.parameter(ctx, b.wish.parameter)
		if err != nil {
			return err
		}
		if aws.ToString(before) == id {
			return nil
		}
		if _, ok := b.journal.Find(journal.Parameter, r.name, b.wish.parameter); !ok {
			parameter := journal.Resource{Kind: journal.Parameter, Region: r.name, Name: b.wish.parameter, Previous: before, ID: id}
			if err := b.journal.Have(parameter); err != nil {
				return err
			}
		}
		if err := r.putParameter(ctx, b.wish.parameter, id); err != nil {
			return err
		}
		b.ui.Say(fmt.Sprintf("%s in %s is now %s", b.wish.parameter, r.name, id))
		return nil
	})
}

// parameter reads an SSM parameter; nil when there is none.
func (r *region) parameter(ctx context.Context, name string) (*string, error) {
	out, err := call(ctx, r, r.ssm.GetParameter, &ssm.GetParameterInput{Name: aws.String(name)})
	if retry.Code(err) == "ParameterNotFound" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read SSM parameter %s: %w", name, err)
	}
	return out.Parameter.Value, nil
}

// putParameter sets a parameter to an image and waits until it is in effect: SSM looks for
// the image after it has answered, and drops a value that it does not find.
func (r *region) putParameter(ctx context.Context, name, image string) error {
	_, err := create(ctx, r, r.ssm.PutParameter, &ssm.PutParameterInput{
		Name: aws.String(name), Value: aws.String(image), Type: ssmtypes.ParameterTypeString,
		DataType: aws.String("aws:ec2:image"), Overwrite: aws.Bool(true),
	})
	if err != nil {
		return fmt.Errorf("set SSM parameter %s: %w", name, err)
	}
	began := time.Now()
	for {
		value, err := r.parameter(ctx, name)
		if err != nil {
			return err
		}
		if aws.ToString(value) == image {
			return nil
		}
		if time.Since(began) > publishes {
			return fmt.Errorf("set SSM parameter %s in %s: it is not %s after %s: SSM could not find that image", name, r.name, image, publishes)
		}
		if err := retry.Sleep(ctx, r.poll); err != nil {
			return err
		}
	}
}

// restoreParameter gives a parameter back the value that it had before this build, unless
// someone has set another since.
func (r *region) restoreParameter(ctx context.Context, p journal.Resource) error {
	now, err := r.parameter(ctx, p.Name)
	if err != nil || aws.ToString(now) != p.ID {
		return err
	}
	if p.Previous != nil {
		return r.putParameter(ctx, p.Name, *p.Previous)
	}
	if _, err := call(ctx, r, r.ssm.DeleteParameter, &ssm.DeleteParameterInput{Name: aws.String(p.Name)}); err != nil && retry.Code(err) != "ParameterNotFound" {
		return fmt.Errorf("delete SSM parameter %s: %w", p.Name, err)
	}
	return nil
}
