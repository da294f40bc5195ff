package ami

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
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
		if valueOf(before) == id {
			return nil
		}
		parameter, asked := b.journal.Find(journal.Parameter, r.name, b.wish.parameter)
		if !asked {
			parameter = journal.Resource{Kind: journal.Parameter, Region: r.name, Name: b.wish.parameter, ID: id}
			if before != nil {
				parameter.Previous, parameter.PreviousType = before.Value, aws.ToString(before.DataType)
			}
		}
		parameter.Time = time.Now().UTC() // undoing waits for it to be in effect
		if err := b.journal.Have(parameter); err != nil {
			return err
		}
		if err := r.putParameter(ctx, b.wish.parameter, id, imageType); err != nil {
			return b.refused(parameter, asked, err)
		}
		if err := r.inEffect(ctx, b.wish.parameter, id); err != nil {
			return err
		}
		b.ui.Say(fmt.Sprintf("%s in %s is now %s", b.wish.parameter, r.name, id))
		return nil
	})
}

// imageType is the data type of a parameter that holds the id of an image.
const imageType = "aws:ec2:image"

// parameter reads an SSM parameter; nil when there is none.
func (r *region) parameter(ctx context.Context, name string) (*ssmtypes.Parameter, error) {
	out, err := call(ctx, r, r.ssm.GetParameter, &ssm.GetParameterInput{Name: aws.String(name)})
	if retry.Code(err) == "ParameterNotFound" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read SSM parameter %s: %w", name, err)
	}
	return out.Parameter, nil
}

// valueOf is a parameter's value, "" when there is none: SSM takes no empty one.
func valueOf(p *ssmtypes.Parameter) string {
	if p == nil {
		return ""
	}
	return aws.ToString(p.Value)
}

func (r *region) putParameter(ctx context.Context, name, value, dataType string) error {
	_, err := create(ctx, r, r.ssm.PutParameter, &ssm.PutParameterInput{
		Name: aws.String(name), Value: aws.String(value), Type: ssmtypes.ParameterTypeString,
		DataType: aws.String(dataType), Overwrite: aws.Bool(true),
	})
	if err != nil {
		return fmt.Errorf("set SSM parameter %s: %w", name, err)
	}
	return nil
}

// inEffect waits until a parameter has the value that was put: SSM looks for the image
// after it has answered, and drops a value that it does not find.
func (r *region) inEffect(ctx context.Context, name, value string) error {
	for began := time.Now(); ; {
		now, err := r.parameter(ctx, name)
		if err != nil {
			return err
		}
		if valueOf(now) == value {
			return nil
		}
		if time.Since(began) > r.announces {
			return fmt.Errorf("set SSM parameter %s in %s: it is not %s after %s: SSM could not find that image", name, r.name, value, r.announces)
		}
		if err := retry.Sleep(ctx, r.poll); err != nil {
			return err
		}
	}
}

// restoreParameter gives a parameter back the value that it had before this build, unless
// someone has set another since. What was put a moment ago it lets come into effect first:
// it would do so over the old value.
func (r *region) restoreParameter(ctx context.Context, p journal.Resource) error {
	for {
		now, err := r.parameter(ctx, p.Name)
		if err != nil {
			return err
		}
		if valueOf(now) == p.ID {
			break
		}
		if valueOf(now) != aws.ToString(p.Previous) || time.Since(p.Time) > r.announces {
			return nil
		}
		if err := retry.Sleep(ctx, r.poll); err != nil {
			return err
		}
	}
	if p.Previous == nil {
		_, err := call(ctx, r, r.ssm.DeleteParameter, &ssm.DeleteParameterInput{Name: aws.String(p.Name)})
		if err != nil && retry.Code(err) != "ParameterNotFound" {
			return fmt.Errorf("delete SSM parameter %s: %w", p.Name, err)
		}
		return nil
	}
	dataType := p.PreviousType
	if dataType == imageType {
		image, ok, err := r.image(ctx, *p.Previous)
		if err != nil {
			return err
		}
		if !ok || image.State != ec2types.ImageStateAvailable {
			dataType = "text" // SSM would drop an image that is gone
		}
	}
	if err := r.putParameter(ctx, p.Name, *p.Previous, dataType); err != nil {
		return err
	}
	return r.inEffect(ctx, p.Name, *p.Previous)
}
