package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ovenbird-dev/ovenbird/lab/control"
)

// testPublish uploads a disk, and starts an instance from it.
func testPublish(t *testing.T, l testLab) {
	ctx, config := t.Context(), l.sdk(t)
	volumes, machines := ebs.NewFromConfig(config), ec2.NewFromConfig(config)
	data := bytes.Repeat([]byte("ovenbird"), 64<<10)
	sum := sha256.Sum256(data)
	started, err := volumes.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	put := func() error {
		_, err := volumes.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId: started.SnapshotId, BlockIndex: aws.Int32(5), BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
			Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		return err
	}
	var missing *ebstypes.ResourceNotFoundException
	for err = put(); errors.As(err, &missing); err = put() {
		time.Sleep(50 * time.Millisecond) // a snapshot is not found at once
	}
	if err == nil {
		_, err = volumes.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: started.SnapshotId, ChangedBlocksCount: aws.Int32(1)})
	}
	if err == nil {
		err = ec2.NewSnapshotCompletedWaiter(machines).Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*started.SnapshotId}}, time.Minute,
			func(o *ec2.SnapshotCompletedWaiterOptions) {
				o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second
			})
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := machines.RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: aws.String("uploaded"), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), BootMode: types.BootModeValuesUefi,
		RootDeviceName: aws.String("/dev/xvda"), BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: started.SnapshotId, VolumeType: types.VolumeTypeGp3},
		}},
	})
	if err == nil {
		err = ec2.NewImageAvailableWaiter(machines).Wait(ctx, &ec2.DescribeImagesInput{ImageIds: []string{*image.ImageId}}, time.Minute,
			func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second })
	}
	if err != nil {
		t.Fatal(err)
	}
	out := l.run(t, "run-instances", "--instance-type", "t3.nano", "--image-id", *image.ImageId, "--output", "json")
	var list []launched
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.run(t, "terminate-instances", "--wait", "--skip-os-shutdown", list[0].ID) })
	if disk := backing(t, filepath.Join(l.dir, "instances", list[0].ID, "disk.qcow2")); !bytes.Equal(disk[5<<19:6<<19], data) || len(disk) != 1<<30 {
		t.Error("the instance has another disk than was uploaded")
	}
	all, err := machines.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil || len(all.Images) != 2 {
		t.Errorf("the uploaded image and that of `up`: %v, %v", all, err)
	}
}

// backing is the disk that a volume began as.
func backing(t *testing.T, volume string) []byte {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "-U", "--output", "json", volume).Output()
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Backing string `json:"full-backing-filename"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(info.Backing)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// testFault makes calls go wrong, and right again.
func testFault(t *testing.T, l testLab) {
	client := ec2.NewFromConfig(l.sdk(t), func(o *ec2.Options) { o.Retryer = aws.NopRetryer{} })
	describe := func() error {
		_, err := client.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{})
		return err
	}
	l.run(t, "fault", "add", "throttle", "DescribeRegions", "--count", "1")
	if err := describe(); err == nil || !strings.Contains(err.Error(), "RequestLimitExceeded") {
		t.Errorf("throttled: %v", err)
	}
	if err := describe(); err != nil {
		t.Errorf("after that: %v", err)
	}
	l.run(t, "fault", "add", "deny", "DescribeRegions")
	l.run(t, "fault", "clear")
	if err := describe(); err != nil {
		t.Errorf("cleared: %v", err)
	}
	var state control.State
	if err := json.Unmarshal([]byte(l.run(t, "fault", "--output", "json")), &state); err != nil || state.Calls["DescribeRegions"] != 3 || len(state.Faults) != 0 {
		t.Errorf("%+v, %v", state, err)
	}
	if _, complaints, status := l.try(t, "fault", "add", "explode"); status != 2 || !strings.Contains(complaints, "throttle") {
		t.Errorf("exit status %d: %s", status, complaints)
	}
}

// testLoadImage puts an image into the registry, where those inside the lab find it.
func testLoadImage(t *testing.T, l testLab) {
	image, err := random.Image(64<<10, 1)
	if err == nil {
		image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: rootFS(t, image)})
	}
	if err != nil {
		t.Fatal(err)
	}
	tag, archive := name.MustParseReference("example.com/team/tool:1.0"), filepath.Join(t.TempDir(), "tool.tar")
	if err := tarball.WriteToFile(archive, tag, image); err != nil {
		t.Fatal(err)
	}
	var list []loaded
	if err := json.Unmarshal([]byte(l.run(t, "load-image", archive, "--output", "json")), &list); err != nil || list[0].Name != "registry.lab.internal/team/tool:1.0" {
		t.Fatalf("%v, %v", list, err)
	}
	if out := l.run(t, "load-image", archive, "mine:2"); out != "registry.lab.internal/mine:2\n" {
		t.Errorf("under another name: %q", out)
	}
	config := l.sdk(t)
	for _, path := range []string{"team/tool/manifests/1.0", "mine/manifests/2"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.lab.internal/v2/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := config.HTTPClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Header.Get("Docker-Content-Digest") != list[0].Digest {
			t.Errorf("%s: %s, %s; want %s", path, response.Status, response.Header.Get("Docker-Content-Digest"), list[0].Digest)
		}
	}
	if _, complaints, status := l.try(t, "load-image", "/no/such/archive"); status != 1 || !strings.Contains(complaints, "/no/such/archive") {
		t.Errorf("exit status %d: %s", status, complaints)
	}
}

func rootFS(t *testing.T, image v1.Image) v1.RootFS {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config.RootFS
}
