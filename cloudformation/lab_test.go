package cloudformation_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cloudformationsdk "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/labtest"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// world is the lab, and its CloudFormation.
type world struct {
	*labtest.Lab
	t         *testing.T
	dir       state.Dir
	formation *cloudformationsdk.Client
}

const (
	labSubnet = "subnet-0bbbbbbbbbbbbbbbb"
	labZone   = "us-west-2b"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := state.Dir(t.TempDir())
	lab := labtest.Start(t, labtest.Options{Dir: dir})
	return &world{lab, t, dir, cloudformationsdk.NewFromConfig(lab.Config())}
}

// patience is how long a test waits for what must come; the machine may be loaded.
const patience = 2 * time.Minute

// rest waits until nothing is under way for a stack, and asks that it be in a state.
func (w *world) rest(id string, want types.StackStatus) types.Stack {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		changed := w.Fleet.Changed()
		out, err := w.formation.DescribeStacks(w.t.Context(), &cloudformationsdk.DescribeStacksInput{StackName: &id})
		must(w.t, err)
		now := out.Stacks[0]
		switch {
		case now.StackStatus == want:
			return now
		case !strings.HasSuffix(string(now.StackStatus), "_IN_PROGRESS") || time.Now().After(deadline):
			w.t.Fatalf("the stack is %s, want %s:\n%s", now.StackStatus, want, w.events(id))
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond): // the stack's own changes
		}
	}
}

func (w *world) events(id string) string {
	out, err := w.formation.DescribeStackEvents(w.t.Context(), &cloudformationsdk.DescribeStackEventsInput{StackName: &id})
	must(w.t, err)
	var lines []string
	for _, e := range slices.Backward(out.StackEvents) {
		lines = append(lines, *e.LogicalResourceId+" "+string(e.ResourceStatus)+" "+aws.ToString(e.ResourceStatusReason))
	}
	return strings.Join(lines, "\n")
}

// running is the one instance that is not terminated.
func (w *world) running() fleet.Instance {
	w.t.Helper()
	all := slices.DeleteFunc(w.Fleet.Instances(), func(i fleet.Instance) bool { return i.State == fleet.Terminated })
	if len(all) != 1 {
		w.t.Fatalf("there are %d instances", len(all))
	}
	return all[0]
}

func TestTheLabMakesTheControlPlaneAndLeavesWhatIsToStay(t *testing.T) {
	w := newWorld(t)
	body, err := os.ReadFile("control-plane.yaml")
	must(t, err)
	var parameters []types.Parameter
	for key, value := range map[string]string{
		"VpcId": w.Plan.VPCID, "SubnetId": labSubnet, "AvailabilityZone": labZone, "PrivateAddress": "10.0.16.200", "ImageId": labtest.Image,
		"AdministratorArns": w.Plan.IAM("user/admin"),
	} {
		parameters = append(parameters, types.Parameter{ParameterKey: &key, ParameterValue: &value})
	}
	made, err := w.formation.CreateStack(t.Context(), &cloudformationsdk.CreateStackInput{
		StackName: aws.String("control-plane"), TemplateBody: aws.String(string(body)), Parameters: parameters,
		Capabilities: []types.Capability{types.CapabilityCapabilityIam},
	})
	must(t, err)
	outputs := map[string]string{}
	for _, o := range w.rest(*made.StackId, types.StackStatusCreateComplete).Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	if outputs["Address"] != "10.0.16.200" {
		t.Errorf("the address is %q", outputs["Address"])
	}
	w.takenOver(outputs["DataVolumeId"])

	_, err = w.formation.DeleteStack(t.Context(), &cloudformationsdk.DeleteStackInput{StackName: made.StackId})
	must(t, err)
	w.rest(*made.StackId, types.StackStatusDeleteComplete)
	w.left(outputs)
}

// takenOver attaches the interface and the volume as the instance does, by its role.
func (w *world) takenOver(volume string) {
	t, ctx, host := w.t, w.t.Context(), w.running()
	t.Helper()
	client := ec2.NewFromConfig(w.As(host))
	found, err := ec2.NewFromConfig(w.Config()).DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{{Name: aws.String("status"), Values: []string{"available"}}}})
	if err != nil || len(found.NetworkInterfaces) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	id := found.NetworkInterfaces[0].NetworkInterfaceId
	_, err = client.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: id, InstanceId: &host.ID, DeviceIndex: aws.Int32(1)})
	must(t, err)
	_, err = client.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: &host.ID, Device: aws.String("/dev/sdf")})
	must(t, err)
	for deadline := time.Now().Add(patience); ; {
		changed := w.Fleet.Changed()
		interfaces, err := client.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{*id}})
		must(t, err)
		volumes, err := client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{volume}})
		must(t, err)
		n, v := interfaces.NetworkInterfaces[0], volumes.Volumes[0]
		if n.Attachment.Status == ec2types.AttachmentStatusAttached && v.Attachments[0].State == ec2types.VolumeAttachmentStateAttached {
			break
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			t.Fatalf("the interface is %s and the volume %s", n.Attachment.Status, v.Attachments[0].State)
		}
	}
	if _, err := client.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &volume}); err == nil || !strings.Contains(err.Error(), "UnauthorizedOperation") {
		t.Errorf("the instance may detach: %v", err)
	}
}

// left asks that nothing be left of the stack but what its policies retain.
func (w *world) left(outputs map[string]string) {
	t, ctx, client := w.t, w.t.Context(), ec2.NewFromConfig(w.Config())
	t.Helper()
	interfaces, err := client.DescribeNetworkInterfaces(ctx, nil)
	if err != nil || len(interfaces.NetworkInterfaces) != 0 {
		t.Errorf("network interfaces: %+v, %v", interfaces, err)
	}
	volumes, err := client.DescribeVolumes(ctx, nil)
	if err != nil || len(volumes.Volumes) != 0 {
		t.Errorf("volumes: %+v, %v", volumes, err)
	}
	groups, err := client.DescribeSecurityGroups(ctx, nil)
	if err != nil || len(groups.SecurityGroups) != 1 {
		t.Errorf("security groups: %+v, %v", groups, err)
	}
	snapshots, err := client.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil || len(snapshots.Snapshots) != 1 || *snapshots.Snapshots[0].VolumeId != outputs["DataVolumeId"] || *snapshots.Snapshots[0].KmsKeyId != outputs["KeyArn"] {
		t.Errorf("snapshots: %+v, %v", snapshots, err)
	}
	data, err := os.ReadFile(w.dir.Recorded())
	must(t, err)
	var kept map[string]any
	must(t, json.Unmarshal(data, &kept))
	bucket, key := outputs["BackupBucketName"], outputs["KeyArn"][strings.LastIndex(outputs["KeyArn"], "/")+1:]
	want := []string{"AWS::KMS::Key " + key, "AWS::S3::Bucket " + bucket, "AWS::S3::BucketPolicy " + bucket}
	if got := slices.Sorted(maps.Keys(kept)); !slices.Equal(got, want) {
		t.Errorf("on record are %q, want %q", got, want)
	}
	logs, err := cloudwatchlogs.NewFromConfig(w.Config()).DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
	must(t, err)
	if len(logs.LogGroups) != 1 || *logs.LogGroups[0].LogGroupName != outputs["LogGroupName"] {
		t.Errorf("log groups: %+v", logs.LogGroups)
	}
}
