package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	volume    = "vol-0123456789abcdef0"
	device    = "/dev/nvme1n1"
	networkID = "eni-0123456789abcdef0"
	here      = "i-0aaaaaaaaaaaaaaaa"
	before    = "i-0bbbbbbbbbbbbbbbb" // the instance that had both
	zone      = "us-west-2a"
	parameter = "/ovenbird/control-plane/backup-key"
)

// world is an instance with the AWS around it. It notes what is done.
type world struct {
	t    *testing.T
	root rootfs.Root
	log  *observer.ObservedLogs

	volume     attachment
	inter      attachment
	holds      string // what wipefs finds on the volume
	parameters map[string]string
	put        *ssm.PutParameterInput
	fail       map[string]error // by action, once
	did        []string
	told       []string
	sleeps     []time.Duration
	onSleep    func(slept int)
	keys       int
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, root: rootfs.Root(t.TempDir()), parameters: map[string]string{}, fail: map[string]error{},
		volume: attachment{what: volume, state: "available", zone: zone}, inter: attachment{what: networkID, state: "available", zone: zone},
	}
	if err := w.root.Apply(rootfs.File{Path: "/proc/self/mountinfo", Data: []byte("1 1 0:1 / / rw - ext4 /dev/root rw\n")}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) note(action string) error {
	w.did = append(w.did, action)
	name, _, _ := strings.Cut(action, " ")
	err := w.fail[name]
	delete(w.fail, name)
	return err
}

func (w *world) DescribeVolumes(_ context.Context, input *ec2.DescribeVolumesInput, _ ...func(*ec2.Options)) (*ec2.DescribeVolumesOutput, error) {
	if !slices.Equal(input.VolumeIds, []string{volume}) {
		w.t.Errorf("asked for %q", input.VolumeIds)
	}
	v := types.Volume{VolumeId: aws.String(volume), State: types.VolumeState(w.volume.state), AvailabilityZone: aws.String(w.volume.zone)}
	if w.volume.instance != "" {
		v.Attachments = []types.VolumeAttachment{{InstanceId: aws.String(w.volume.instance), State: types.VolumeAttachmentState(w.volume.how)}}
	}
	if w.volume.instance == here {
		w.volume.how = "attached" // by the next time
		w.plug()
	}
	return &ec2.DescribeVolumesOutput{Volumes: []types.Volume{v}}, nil
}

// plug shows the kernel the volume.
func (w *world) plug() {
	for name, text := range map[string]string{"serial": strings.Replace(volume, "-", "", 1) + "   \n", "model": "Amazon Elastic Block Store\n"} {
		if err := w.root.Apply(rootfs.File{Path: "/sys/block/nvme1n1/device/" + name, Data: []byte(text)}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) AttachVolume(_ context.Context, input *ec2.AttachVolumeInput, _ ...func(*ec2.Options)) (*ec2.AttachVolumeOutput, error) {
	if err := w.note("AttachVolume " + aws.ToString(input.VolumeId) + " " + aws.ToString(input.InstanceId)); err != nil {
		return nil, err
	}
	w.volume.state, w.volume.instance, w.volume.how = "in-use", aws.ToString(input.InstanceId), "attaching"
	return &ec2.AttachVolumeOutput{}, nil
}

func (w *world) DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error) {
	i := types.NetworkInterface{
		NetworkInterfaceId: aws.String(networkID), Status: types.NetworkInterfaceStatus(w.inter.state), AvailabilityZone: aws.String(w.inter.zone),
		SubnetId: aws.String("subnet-1"), MacAddress: aws.String("02:aa:bb:cc:dd:02"), PrivateIpAddress: aws.String("10.0.16.10"),
	}
	if w.inter.instance != "" {
		i.Attachment = &types.NetworkInterfaceAttachment{InstanceId: aws.String(w.inter.instance), Status: types.AttachmentStatus(w.inter.how)}
	}
	if w.inter.instance == here {
		w.inter.how = "attached"
	}
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: []types.NetworkInterface{i}}, nil
}

func (w *world) AttachNetworkInterface(_ context.Context, input *ec2.AttachNetworkInterfaceInput, _ ...func(*ec2.Options)) (*ec2.AttachNetworkInterfaceOutput, error) {
	if err := w.note(fmt.Sprintf("AttachNetworkInterface %s %s %d", aws.ToString(input.NetworkInterfaceId), aws.ToString(input.InstanceId), *input.DeviceIndex)); err != nil {
		return nil, err
	}
	w.inter.state, w.inter.instance, w.inter.how = "in-use", aws.ToString(input.InstanceId), "attaching"
	return &ec2.AttachNetworkInterfaceOutput{}, nil
}

func (w *world) DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error) {
	return &ec2.DescribeSubnetsOutput{Subnets: []types.Subnet{{CidrBlock: aws.String("10.0.16.0/20")}}}, nil
}

func (w *world) GetParameter(_ context.Context, input *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	if err := w.fail["GetParameter"]; err != nil {
		return nil, err
	}
	value, ok := w.parameters[aws.ToString(input.Name)]
	if !ok {
		return nil, &ssmtypes.ParameterNotFound{}
	}
	if !aws.ToBool(input.WithDecryption) {
		value = "AQICAHh..."
	}
	return &ssm.GetParameterOutput{Parameter: &ssmtypes.Parameter{Value: &value}}, nil
}

func (w *world) PutParameter(_ context.Context, input *ssm.PutParameterInput, _ ...func(*ssm.Options)) (*ssm.PutParameterOutput, error) {
	if err := w.note("PutParameter " + aws.ToString(input.Name)); err != nil {
		return nil, err
	}
	w.put, w.parameters[aws.ToString(input.Name)] = input, aws.ToString(input.Value)
	return &ssm.PutParameterOutput{}, nil
}

func (w *world) Run(_ context.Context, program string, args ...string) (string, error) {
	if program == "wipefs" {
		return w.holds + "\n", w.fail["wipefs"]
	}
	if err := w.note(program + " " + args[len(args)-1]); err != nil {
		return "", err
	}
	if program == "mkfs.ext4" {
		w.holds = "ext4"
	}
	return "", nil
}

func (w *world) Mount(source, target, fileSystem string, _ uintptr) error {
	if err := w.note("mount " + source + " " + strings.TrimPrefix(target, string(w.root)) + " " + fileSystem); err != nil {
		return err
	}
	return w.root.Apply(rootfs.File{Path: "/proc/self/mountinfo", Data: []byte("1 1 0:1 / / rw - ext4 /dev/root rw\n2 1 0:2 / " + MountPoint + " rw - ext4 x rw\n")})
}

func (w *world) Reload(context.Context) error { return w.note("reload") }

func (w *world) Addresses() ([]netip.Addr, error) {
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.16.7")}
	if w.inter.how == "attached" {
		addresses = append(addresses, netip.MustParseAddr("10.0.16.10"))
	}
	return addresses, nil
}

func (w *world) prepare(ctx context.Context, more ...func(*Host)) error {
	keep := 28
	core, logs := observer.New(zap.InfoLevel)
	w.log = logs
	h := &Host{
		Spec: nodeconfig.HostSpec{
			VolumeID: volume, NetworkInterfaceID: networkID, PublicHost: "eks.example.internal:8443",
			Policy:   map[string]any{"statements": []any{}},
			LogGroup: "/ovenbird/logs",
			Backups:  &nodeconfig.HostBackups{To: "s3://backups/clusters", Interval: "6h", Keep: &keep, KeyParameter: parameter, KMSKeyID: "alias/ovenbird"},
		},
		Instance: imds.Instance{ID: here, Region: "us-west-2", AvailabilityZone: zone, AccountID: "111122223333"},
		Clouds:   Clouds{w, w, w}, Root: w.root, Disks: w, Network: w,
		MakeKey: func(path string) error {
			w.keys++
			return os.WriteFile(path, fmt.Appendf(nil, "AGE-SECRET-KEY-%d\n", w.keys), 0o600)
		},
		Sleep: func(ctx context.Context, d time.Duration) error {
			w.sleeps = append(w.sleeps, d)
			if w.onSleep != nil {
				w.onSleep(len(w.sleeps))
			}
			return ctx.Err()
		},
		Random: func() float64 { return 0 },
		Tell:   func(status string) { w.told = append(w.told, status) },
		Log:    zap.New(core),
	}
	for _, change := range more {
		change(h)
	}
	return h.Prepare(ctx)
}

func (w *world) mustPrepare(more ...func(*Host)) {
	w.t.Helper()
	if err := w.prepare(w.t.Context(), more...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustHaveDone(want ...string) {
	w.t.Helper()
	got := slices.Compact(slices.DeleteFunc(slices.Clone(w.did), func(action string) bool { return action == "reload" }))
	if !slices.Equal(got, want) {
		w.t.Errorf("it did\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *world) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.root.Join(path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

var (
	attachVolume    = "AttachVolume " + volume + " " + here
	attachInterface = "AttachNetworkInterface " + networkID + " " + here + " 1"
	mount           = "mount " + device + " " + MountPoint + " ext4"
	grow            = growProgram + " " + MountPoint
)

func TestTheFirstHostMakesAllAndAReplacementFindsIt(t *testing.T) {
	w := newWorld(t)
	w.mustPrepare()
	w.mustHaveDone(attachVolume, "mkfs.ext4 "+device, mount, grow, attachInterface, "PutParameter "+parameter)
	if got, want := w.read(argumentsFile), "OVENBIRD_SERVE=--listen 10.0.16.10:443 --public-host eks.example.internal:8443 --tls-name eks.example.internal "+
		"--region us-west-2 --account-id 111122223333 --state-dir /var/lib/ovenbird/data/control-plane --components /usr/lib/ovenbird/components "+
		"--policy /run/ovenbird/policy.json --log-group /ovenbird/logs --log-source "+here+" --backup-to s3://backups/clusters --backup-interval 6h --backup-key-file /var/lib/ovenbird/data/backup.key --backup-keep 28\n"; got != want {
		t.Errorf("the service is run with\n%swant\n%s", got, want)
	}
	if got := w.read(policyFile); got != "{\n  \"statements\": []\n}\n" {
		t.Errorf("the policy is %s", got)
	}
	if w.put.Type != ssmtypes.ParameterTypeSecureString || aws.ToString(w.put.KeyId) != "alias/ovenbird" || aws.ToBool(w.put.Overwrite) {
		t.Errorf("the key was kept as %+v", w.put)
	}

	// The same host, once more: nothing is left to do but to look whether the volume has grown.
	w.did = nil
	w.mustPrepare()
	w.mustHaveDone(grow)

	// Another instance, with the same volume.
	w.did = nil
	if err := w.root.Apply(rootfs.File{Path: "/proc/self/mountinfo", Data: []byte("1 1 0:1 / / rw - ext4 /dev/root rw\n")}); err != nil {
		t.Fatal(err)
	}
	w.volume, w.inter = attachment{what: volume, state: "available", zone: zone}, attachment{what: networkID, state: "available", zone: zone}
	w.mustPrepare()
	w.mustHaveDone(attachVolume, mount, grow, attachInterface)
}

func TestAVolumeIsNotTakenFromAnInstanceThatHasIt(t *testing.T) {
	w := newWorld(t)
	w.volume.state, w.volume.instance, w.volume.how = "in-use", before, "attached"
	w.inter.state, w.inter.instance, w.inter.how = "in-use", before, "attached"
	w.onSleep = func(slept int) {
		switch slept {
		case 10:
			if len(w.did) > 0 {
				t.Errorf("while another instance has all, it did %q", w.did)
			}
			w.volume.how = "busy"
		case 20:
			w.volume.state, w.volume.instance = "available", ""
		case 30:
			w.inter.state, w.inter.instance = "available", ""
		}
	}
	w.mustPrepare()
	w.mustHaveDone(attachVolume, "mkfs.ext4 "+device, mount, grow, attachInterface, "PutParameter "+parameter)
	if got, want := w.sleeps[:6], []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second}; !slices.Equal(got, want) {
		t.Errorf("it waited %v", got)
	}
	if want := "attach the data volume: waiting: " + before + " has " + volume + " (attached): it comes here when that instance is terminated"; !slices.Contains(w.told, want) {
		t.Errorf("it told %q", w.told)
	}
	said := 0
	for _, entry := range w.log.FilterMessage("waiting").All() {
		if strings.Contains(fmt.Sprint(entry.ContextMap()["for"]), "(attached)") {
			said++
		}
	}
	if said != 2 { // once for each, not once a try
		t.Errorf("the log says %d times who has them", said)
	}
}

func TestWhatIsOnAVolumeStays(t *testing.T) {
	for holds, want := range map[string]string{
		"xfs": "holds xfs, which is left alone", "gpt": "holds gpt", "LVM2_member": "holds LVM2_member", "ext4": "",
	} {
		w := newWorld(t)
		w.holds = holds
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.onSleep = func(slept int) {
			if slept > 20 {
				cancel()
			}
		}
		err := w.prepare(ctx)
		for _, action := range w.did {
			if strings.HasPrefix(action, "mkfs") {
				t.Errorf("%s was formatted", holds)
			}
		}
		if (err == nil) != (want == "") || want != "" && !strings.Contains(strings.Join(w.told, "\n"), want) {
			t.Errorf("%s: %v, told %q", holds, err, w.told)
		}
	}
	// One that cannot be looked at may hold something.
	w := newWorld(t)
	w.fail["wipefs"] = errors.New("wipefs: Input/output error")
	ctx, cancel := context.WithCancel(t.Context())
	w.onSleep = func(slept int) {
		if slept > 20 {
			cancel()
		}
	}
	if err := w.prepare(ctx); !errors.Is(err, context.Canceled) || slices.Contains(w.did, "mkfs.ext4 "+device) {
		t.Errorf("a volume that cannot be read: %v, %q", err, w.did)
	}
}

func TestEveryStepCanFailAndComeAgain(t *testing.T) {
	for _, action := range []string{"AttachVolume", "mkfs.ext4", "mount", growProgram, "reload", "AttachNetworkInterface", "PutParameter"} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t)
			w.fail[action] = errors.New("it did not work")
			w.mustPrepare()
			if w.log.FilterMessage("failed, will be tried again").Len() != 1 {
				t.Errorf("the log has %v", w.log.All())
			}
			if w.keys != 1 {
				t.Errorf("%d keys were made", w.keys)
			}
			w.read(argumentsFile)
		})
	}
}

func TestWhoHasWhatIsJudged(t *testing.T) {
	for name, test := range map[string]struct {
		a      attachment
		attach bool
		want   string // in the error; empty: none
		waits  bool
	}{
		"free":                          {attachment{state: "available", zone: zone}, true, "", false},
		"attached here":                 {attachment{state: "in-use", instance: here, how: "attached", zone: zone}, false, "", false},
		"attaching here":                {attachment{state: "in-use", instance: here, how: "attaching", zone: zone}, false, "is attaching", true},
		"going from here":               {attachment{state: "in-use", instance: here, how: "detaching", zone: zone}, false, "is detaching", true},
		"attached elsewhere":            {attachment{state: "in-use", instance: before, how: "attached", zone: zone}, false, before + " has", true},
		"going from elsewhere":          {attachment{state: "in-use", instance: before, how: "detaching", zone: zone}, false, before + " has", true},
		"available, says EC2, but held": {attachment{state: "available", instance: before, how: "detaching", zone: zone}, false, before + " has", true},
		"being made":                    {attachment{state: "creating", zone: zone}, false, "is creating", true},
		"gone":                          {attachment{state: "deleted", zone: zone}, false, "restore it from a snapshot", false},
		"in another zone":               {attachment{state: "available", zone: "us-west-2b"}, false, "start it in a subnet of us-west-2b", false},
	} {
		t.Run(name, func(t *testing.T) {
			test.a.what = volume
			attach, err := test.a.judge(here, zone)
			var patience waiting
			if attach != test.attach || (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) || errors.As(err, &patience) != test.waits {
				t.Errorf("got %v, %v", attach, err)
			}
		})
	}
}

func TestTheInterfaceIsConfiguredBeforeItComes(t *testing.T) {
	w := newWorld(t)
	w.fail["AttachNetworkInterface"] = errors.New("stop here")
	ctx, cancel := context.WithCancel(t.Context())
	w.onSleep = func(int) {
		if w.inter.instance == "" && slices.Contains(w.did, attachInterface) {
			cancel()
		}
	}
	if err := w.prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "control-plane.network"))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.read("/run/systemd/network/05-ovenbird-control-plane.network"); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if at := slices.Index(w.did, "reload"); at < 0 || at > slices.Index(w.did, attachInterface) {
		t.Errorf("it did %q", w.did)
	}
}

func TestTheKeyOfBackupsIsTheOneThatSSMHas(t *testing.T) {
	for name, test := range map[string]struct {
		onVolume, inSSM string
		failed          error // of SSM
		want            string
		made            int
	}{
		"neither has one":                    {"", "", nil, "AGE-SECRET-KEY-1\n", 1},
		"SSM has it, the volume is new":      {"", "kept\n", nil, "kept\n", 0},
		"SSM has another one":                {"old\n", "kept\n", nil, "kept\n", 0},
		"SSM has lost it":                    {"old\n", "", nil, "old\n", 0},
		"SSM does not answer, the volume is": {"old\n", "", errors.New("no answer"), "old\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if test.failed != nil {
				w.fail["GetParameter"] = test.failed
			}
			if test.onVolume != "" {
				if err := w.root.Apply(rootfs.File{Path: keyFile, Mode: 0o600, Data: []byte(test.onVolume)}); err != nil {
					t.Fatal(err)
				}
			}
			if test.inSSM != "" {
				w.parameters[parameter] = test.inSSM
			}
			w.mustPrepare()
			info, err := os.Stat(w.root.Join(keyFile))
			if err != nil || info.Mode() != 0o600 || w.read(keyFile) != test.want || w.keys != test.made {
				t.Errorf("the volume has %q (%v), %d were made", w.read(keyFile), info, w.keys)
			}
			if test.failed == nil && w.parameters[parameter] != test.want {
				t.Errorf("SSM has %q", w.parameters[parameter])
			}
			if _, err := os.Stat(w.root.Join(unsaved)); !errors.Is(err, os.ErrNotExist) {
				t.Error("a second key stays on the volume")
			}
		})
	}
}

func TestNoKeyIsUsedThatOnlyTheVolumeHas(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.onSleep = func(int) {
		if slices.Contains(w.did, "PutParameter "+parameter) {
			cancel()
		}
	}
	w.fail["PutParameter"] = errors.New("AccessDenied")
	if err := w.prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.root.Join(keyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key is in use before SSM has it")
	}
}

func TestWithoutBackupsSSMIsNotAsked(t *testing.T) {
	w := newWorld(t)
	w.fail["GetParameter"] = errors.New("asked")
	w.mustPrepare(func(h *Host) { h.Spec.Backups = nil })
	if strings.Contains(w.read(argumentsFile), "backup") {
		t.Errorf("the service is run with %s", w.read(argumentsFile))
	}
}
