package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/access"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// How long the commands wait for instances to change state.
const (
	launchLimit = 3 * time.Minute
	endLimit    = 5 * time.Minute
	pollEvery   = 250 * time.Millisecond
)

// client reaches the lab's EC2.
func (p *place) client() (*ec2.Client, state.Lab, error) {
	dir, lab, err := p.running()
	if err != nil {
		return nil, state.Lab{}, err
	}
	config, err := access.Config(dir, lab, p.plan)
	if err != nil {
		return nil, state.Lab{}, err
	}
	return ec2.NewFromConfig(config), lab, nil
}

// launch is the flags of run-instances.
type launch struct {
	count                                      int32
	image, kind, subnet, userData, profile, ip string
	tags                                       []string
	volume                                     int32
	metadataTags                               bool
	spot                                       string
}

func runInstancesCommand(p *place) *cobra.Command {
	var l launch
	cmd := &cobra.Command{
		Use:   "run-instances",
		Short: "Start instances and wait until they run",
		Long: `Start instances through the lab's EC2 API and wait until their machines run. What the
guest does from there on shows with the console command.`,
		Example: `  ovenbird-lab run-instances --user-data user-data --iam-instance-profile ovenbird-node \
    --tag kubernetes.io/cluster/demo=owned
  ovenbird-lab run-instances --count 2 --instance-type t3.large --output json`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.Int32Var(&l.count, "count", 1, "how many")
	flags.StringVar(&l.image, "image-id", "", "AMI (default: the one registered last)")
	flags.StringVar(&l.kind, "instance-type", "t3.medium", "size")
	flags.StringVar(&l.subnet, "subnet-id", "", "subnet (default: that of the lab's own VPC with the most free addresses)")
	flags.StringVar(&l.userData, "user-data", "", "file with the user-data")
	flags.StringVar(&l.profile, "iam-instance-profile", "", "instance profile")
	flags.StringVar(&l.ip, "private-ip-address", "", "address of the one instance (default: any)")
	flags.StringArrayVar(&l.tags, "tag", nil, "tag as KEY=VALUE; may be given again")
	flags.Int32Var(&l.volume, "volume-size", 0, "GiB of the root volume (default: the image's size)")
	flags.BoolVar(&l.metadataTags, "metadata-tags", false, "show the tags in the instance metadata")
	flags.StringVar(&l.spot, "spot", "", "make them spot instances, which an interruption does this to: terminate or stop")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, lab, err := p.client()
		if err != nil {
			return err
		}
		input, err := l.input(cmd.Context(), client, lab)
		if err != nil {
			return err
		}
		var running []types.Instance
		err = progress.New(os.Stderr).Do(fmt.Sprintf("starting %d x %s", l.count, l.kind), func() (err error) {
			running, err = runAndWait(cmd.Context(), client, input)
			return err
		})
		if err != nil {
			return err
		}
		return printLaunched(cmd.OutOrStdout(), output, running)
	}
	return cmd
}

// input turns the flags into a request.
func (l launch) input(ctx context.Context, client *ec2.Client, lab state.Lab) (*ec2.RunInstancesInput, error) {
	in := &ec2.RunInstancesInput{
		MinCount: &l.count, MaxCount: &l.count, InstanceType: types.InstanceType(l.kind),
		ImageId: optional(l.image), SubnetId: optional(l.subnet), PrivateIpAddress: optional(l.ip),
	}
	if newest, ok := lab.Newest(); ok && l.image == "" {
		in.ImageId = &newest.ID
	}
	if in.ImageId == nil {
		return nil, errors.New("run-instances: the lab has no image: register one with `ovenbird-lab up --image DISK`")
	}
	if l.profile != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: &l.profile}
	}
	if l.volume > 0 {
		in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: &l.volume}}}
	}
	switch l.spot {
	case "":
	case fleet.InterruptionTerminate, fleet.InterruptionStop:
		in.InstanceMarketOptions = spotOptions(l.spot)
	default:
		return nil, cli.Usage(fmt.Errorf("--spot %q: want terminate or stop", l.spot))
	}
	if l.metadataTags {
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: types.InstanceMetadataTagsStateEnabled}
	}
	if l.userData != "" {
		data, err := os.ReadFile(l.userData)
		if err != nil {
			return nil, fmt.Errorf("run-instances: read the user-data: %w", err)
		}
		in.UserData = aws.String(base64.StdEncoding.EncodeToString(data))
	}
	var tags []types.Tag
	for _, pair := range l.tags {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, cli.Usage(fmt.Errorf("--tag %q: want KEY=VALUE", pair))
		}
		tags = append(tags, types.Tag{Key: &key, Value: &value})
	}
	if len(tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: tags}}
	}
	if in.SubnetId == nil {
		out, err := client.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{
			{Name: aws.String("vpc-id"), Values: []string{vpc.Default().VPCID}},
		}})
		if err != nil {
			return nil, fmt.Errorf("run-instances: choose a subnet: %w", plain(err))
		}
		var most int32
		for _, s := range out.Subnets {
			if free := aws.ToInt32(s.AvailableIpAddressCount); free > most {
				most, in.SubnetId = free, s.SubnetId
			}
		}
	}
	return in, nil
}

// spotOptions ask for spot instances; only those of a persistent request can be stopped.
func spotOptions(interruption string) *types.InstanceMarketOptionsRequest {
	kind := types.SpotInstanceTypeOneTime
	if interruption == fleet.InterruptionStop {
		kind = types.SpotInstanceTypePersistent
	}
	return &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot, SpotOptions: &types.SpotMarketOptions{
		SpotInstanceType: kind, InstanceInterruptionBehavior: types.InstanceInterruptionBehavior(interruption),
	}}
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// runAndWait starts instances and waits until all run. One that cannot start is an error
// with EC2's reason.
func runAndWait(ctx context.Context, client *ec2.Client, in *ec2.RunInstancesInput) ([]types.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, launchLimit)
	defer cancel()
	out, err := client.RunInstances(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("run-instances: %w", plain(err))
	}
	var ids []string
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	list, err := await(ctx, client, ids, func(i types.Instance) (bool, error) {
		switch i.State.Name {
		case types.InstanceStateNamePending:
			return false, nil
		case types.InstanceStateNameRunning:
			return true, nil
		}
		why := "it is " + string(i.State.Name)
		if i.StateReason != nil {
			why = aws.ToString(i.StateReason.Message)
		}
		return false, fmt.Errorf("%s did not start: %s", *i.InstanceId, why)
	})
	if err != nil {
		return nil, fmt.Errorf("run-instances: %w", err)
	}
	return list, nil
}

// await polls until done holds for every instance.
func await(ctx context.Context, client *ec2.Client, ids []string, done func(types.Instance) (bool, error)) ([]types.Instance, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		out, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids})
		if err != nil {
			return nil, plain(err)
		}
		var list []types.Instance
		all := true
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				ok, err := done(i)
				if err != nil {
					return nil, err
				}
				all = all && ok
				list = append(list, i)
			}
		}
		if all {
			return list, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", strings.Join(ids, ", "), ctx.Err())
		}
	}
}

// plain is what AWS said, without the SDK's account of how it asked.
func plain(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		return fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage())
	}
	return err
}

// launched is one instance that run-instances printed.
type launched struct {
	ID      string `json:"instanceId"`
	Zone    string `json:"availabilityZone"`
	Address string `json:"privateIpAddress"`
	DNSName string `json:"privateDnsName"`
	State   string `json:"state"`
}

func printLaunched(w io.Writer, output *cli.Output, instances []types.Instance) error {
	list := []launched{}
	for _, i := range instances {
		list = append(list, launched{
			ID: aws.ToString(i.InstanceId), Zone: aws.ToString(i.Placement.AvailabilityZone),
			Address: aws.ToString(i.PrivateIpAddress), DNSName: aws.ToString(i.PrivateDnsName), State: string(i.State.Name),
		})
	}
	return output.Print(w, list, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, i := range list {
			fmt.Fprintf(t, "%s\t%s\t%s\n", i.ID, i.Zone, i.Address)
		}
		return t.Flush()
	})
}
