package cloudformation_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cloudformationsdk "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/recorded"
	"github.com/ovenbird-dev/ovenbird/lab/dnsmasq"
	labec2 "github.com/ovenbird-dev/ovenbird/lab/ec2"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint"
	"github.com/ovenbird-dev/ovenbird/lab/fakeinstance"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/imds"
	"github.com/ovenbird-dev/ovenbird/lab/logs"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// world is the lab's services in the test's own process, whose instances are played in memory.
type world struct {
	t         *testing.T
	dir       state.Dir
	plan      vpc.Plan
	fleet     *fleet.Fleet
	roles     identity.Roles
	iam       *iam.Store
	server    *httptest.Server
	formation *cloudformationsdk.Client
}

const (
	labImage  = "ami-0123456789abcdef0"
	labSubnet = "subnet-0bbbbbbbbbbbbbbbb"
	labZone   = "us-west-2b"
)

// ground is where fake instances stand: nothing is there to plug in, and every image has a disk.
type ground struct{}

func (ground) Plug(network.Port) error                      { return nil }
func (ground) Unplug(network.Port) error                    { return nil }
func (ground) Announce([]dnsmasq.Host) error                { return nil }
func (ground) Disk(string) (path string, _ []byte, _ error) { return "disk", nil, nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: state.Dir(t.TempDir()), plan: vpc.Default(), roles: identity.Roles{Secret: make([]byte, 32), Now: time.Now}}
	logger := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	must(t, w.dir.Make())
	networks, err := vpc.Open(w.plan, w.dir.Networks())
	must(t, err)
	w.plan.Networks = networks
	w.iam = &iam.Store{Path: w.dir.Roles(), Plan: w.plan, Now: time.Now}
	must(t, w.iam.Open())
	machines := fakeinstance.New(nil)
	w.fleet, err = fleet.Open(fleet.Options{
		Plan: w.plan, Dir: w.dir, Machines: machines, Disks: ground{}, Network: ground{}, Role: w.iam.Role, Now: time.Now, Logger: logger,
		ShutdownLimit: time.Minute, Retention: time.Hour,
	})
	must(t, err)
	images, err := catalog.Open(catalog.Options{
		Dir: string(w.dir), Account: w.plan.Account, Regions: w.plan.Regions(), Now: time.Now, Logger: logger,
		Baked: func() []catalog.Image {
			return []catalog.Image{{ID: labImage, Region: w.plan.Region, RootDevice: "/dev/xvda", Size: 1 << 30}}
		},
	})
	must(t, err)
	parameters := &ssm.Store{Path: w.dir.Parameters(), Catalog: images, Now: time.Now}
	groups := &autoscaling.Groups{Path: w.dir.Scaling(), Fleet: w.fleet, Subnet: w.plan.Subnet, Now: time.Now, Logger: logger}
	stacks := &cloudformation.Stacks{Path: w.dir.Stacks(), Plan: w.plan, Now: time.Now, Logger: logger}
	kept := &recorded.Store{Path: w.dir.Recorded(), Plan: w.plan}
	shipped := &logs.Store{Dir: w.dir.Logs(), Now: time.Now}
	inventory := &labec2.Inventory{Path: w.dir.Inventory()}
	for _, open := range []func() error{parameters.Open, groups.Open, stacks.Open, kept.Open, shipped.Open, inventory.Open} {
		must(t, open())
	}
	admin := identity.Credential{AccessKeyID: "AKIATEST", SecretAccessKey: "secret", ARN: w.plan.IAM("user/admin")}
	w.server = httptest.NewTLSServer(endpoint.New(endpoint.Options{
		Plan: w.plan, Fleet: w.fleet, Catalog: images, Inventory: inventory, Store: parameters, Groups: groups, Stacks: stacks, IAM: w.iam, Logs: shipped, Recorded: kept,
		Keys: identity.Keys{Lasting: []identity.Credential{admin}, Roles: w.roles, Sessions: w.fleet.Sessions}, Now: time.Now, Logger: logger,
	}))
	agents := w.server.Client().Transport.(*http.Transport).Clone()
	agents.DisableKeepAlives = true
	machines.Open(fakeinstance.Surroundings{
		Instances: w.fleet, Endpoint: w.server.URL, Client: &http.Client{Transport: agents}, Region: w.plan.Region, Now: time.Now, Logger: logger,
		Metadata: imds.Service{Plan: w.plan, Instances: w.fleet, Roles: w.roles, Role: w.iam.Role, Secret: make([]byte, 32), Now: time.Now, Logger: logger},
	})
	w.formation = cloudformationsdk.New(cloudformationsdk.Options{
		Region: w.plan.Region, BaseEndpoint: &w.server.URL, HTTPClient: sdktest.Client(w.server), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, ""),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.fleet.Run(ctx) })
	running.Go(func() { groups.Run(ctx) })
	running.Go(func() { stacks.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		machines.Close()
		w.server.CloseClientConnections()
		w.server.Close()
		images.Close()
	})
	return w
}

// ec2 is EC2 for the administrator, or for the role of an instance.
func (w *world) ec2(as *fleet.Instance) *ec2.Client {
	key, secret, token := "AKIATEST", "secret", ""
	if as != nil {
		s := w.roles.Session(w.plan.AssumedRole(w.iam.Role(as.Profile), as.ID))
		key, secret, token = s.AccessKeyID, s.SecretAccessKey, s.SessionToken
	}
	return ec2.New(ec2.Options{
		Region: w.plan.Region, BaseEndpoint: &w.server.URL, HTTPClient: sdktest.Client(w.server), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, token),
	})
}

// patience is how long a test waits for what must come; the machine may be loaded.
const patience = 2 * time.Minute

// rest waits until nothing is under way for a stack, and asks that it be in a state.
func (w *world) rest(id string, want types.StackStatus) types.Stack {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		changed := w.fleet.Changed()
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
	all := slices.DeleteFunc(w.fleet.Instances(), func(i fleet.Instance) bool { return i.State == fleet.Terminated })
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
		"VpcId": w.plan.VPCID, "SubnetId": labSubnet, "AvailabilityZone": labZone, "PrivateAddress": "10.0.16.200", "ImageId": labImage,
		"AdministratorArns": w.plan.IAM("user/admin"),
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
	client := w.ec2(&host)
	found, err := w.ec2(nil).DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{{Name: aws.String("status"), Values: []string{"available"}}}})
	if err != nil || len(found.NetworkInterfaces) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	id := found.NetworkInterfaces[0].NetworkInterfaceId
	_, err = client.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: id, InstanceId: &host.ID, DeviceIndex: aws.Int32(1)})
	must(t, err)
	_, err = client.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: &host.ID, Device: aws.String("/dev/sdf")})
	must(t, err)
	for deadline := time.Now().Add(patience); ; {
		changed := w.fleet.Changed()
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
	t, ctx, client := w.t, w.t.Context(), w.ec2(nil)
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
}
