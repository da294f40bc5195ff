package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
	"github.com/ovenbird-dev/ovenbird/lab/access"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Where the AMI goes besides.
const (
	otherRegion  = "eu-central-1"
	otherAccount = "444455556666"
	parameter    = "/ovenbird/stable/image_id"
)

// checkAMI bakes and publishes a signed AMI with the published template and boots it: what
// was uploaded is what runs, in Secure Boot. Registered with somebody else's keys, the same
// snapshot does not boot.
func checkAMI(ctx context.Context, t *testing.T, l *lab) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	signer := newSigner(t, dir, "signer")
	l.run(t, 15*time.Minute, "scripts/packer", "build", "-color=false", "-var", "output="+dir+"/image",
		"-var", "secure_boot_key="+filepath.Join(dir, "signer.key"), "-var", "secure_boot_certificate="+filepath.Join(dir, "signer.crt"),
		"-var", `copy_to=["`+otherRegion+`"]`, "-var", `share_with=["`+otherAccount+`"]`, "-var", "ssm_parameter="+parameter,
		"packer/templates/node-ami.pkr.hcl")

	config := l.awsConfig(t)
	client := ec2.NewFromConfig(config)
	image := published(ctx, t, config)
	if image.BootMode != types.BootModeValuesUefi || !aws.ToBool(image.EnaSupport) || image.TpmSupport != types.TpmSupportValuesV20 || image.ImdsSupport != types.ImdsSupportValuesV20 {
		t.Errorf("the image is registered as %+v", image)
	}
	elsewhere := config.Copy()
	elsewhere.Region = otherRegion
	if copied := published(ctx, t, elsewhere); aws.ToString(copied.Name) != aws.ToString(image.Name) || copied.State != types.ImageStateAvailable {
		t.Errorf("the image in %s is %+v", otherRegion, copied)
	}

	// The nodes so far would take their share of the machine.
	l.run(t, 5*time.Minute, "scripts/remove-nodes")
	l.run(t, 10*time.Minute, "scripts/add-node", "--image-id", aws.ToString(image.ImageId))
	l.awaitConsole(t, l.newest(ctx, t, client), "Kernel is locked down from EFI Secure Boot", time.Minute)

	foreign := newSigner(t, dir, "foreign")
	if foreign.Equal(signer) {
		t.Fatal("the two signers are one")
	}
	refused := register(ctx, t, client, image, foreign)
	l.ctl(t, 3*time.Minute, "run-instances", "--image-id", refused)
	instance := l.newest(ctx, t, client)
	l.awaitConsole(t, instance, "Access Denied", 3*time.Minute)
	l.ctl(t, 3*time.Minute, "terminate-instances", "--skip-os-shutdown", "--wait", instance)
}

// newSigner makes a key for Secure Boot and its certificate, name.key and name.crt in dir.
func newSigner(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".key": {Type: "PRIVATE KEY", Bytes: secret}, ".crt": {Type: "CERTIFICATE", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// awsConfig reaches the lab as its administrator.
func (l *lab) awsConfig(t *testing.T) aws.Config {
	t.Helper()
	dir, err := state.Open(filepath.Join(l.state, "lab"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := dir.Load()
	if err != nil {
		t.Fatal(err)
	}
	config, err := access.Config(dir, found, vpc.Default())
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// published is the image that the region's parameter tells of.
func published(ctx context.Context, t *testing.T, config aws.Config) types.Image {
	t.Helper()
	told, err := ssm.NewFromConfig(config).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(parameter)})
	if err != nil {
		t.Fatal(err)
	}
	id := aws.ToString(told.Parameter.Value)
	images, err := ec2.NewFromConfig(config).DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil || len(images.Images) != 1 {
		t.Fatalf("describe %s in %s: %v, %v", id, config.Region, images, err)
	}
	return images.Images[0]
}

// register makes another AMI of an image's snapshot, with a certificate that has not
// signed it.
func register(ctx context.Context, t *testing.T, client *ec2.Client, image types.Image, foreign *x509.Certificate) string {
	t.Helper()
	keys := []*x509.Certificate{foreign}
	data, err := uefivars.Encode(uefivars.SecureBoot(foreign, keys, keys))
	if err != nil {
		t.Fatal(err)
	}
	registered, err := client.RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: aws.String("foreign"), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		BootMode: types.BootModeValuesUefi, UefiData: &data, RootDeviceName: image.RootDeviceName, EnaSupport: aws.Bool(true),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: image.RootDeviceName, Ebs: &types.EbsBlockDevice{SnapshotId: image.BlockDeviceMappings[0].Ebs.SnapshotId}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	waiter := ec2.NewImageAvailableWaiter(client, func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay = time.Second })
	if err := waiter.Wait(ctx, &ec2.DescribeImagesInput{ImageIds: []string{*registered.ImageId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	return *registered.ImageId
}

// newest is the instance that was launched last.
func (l *lab) newest(ctx context.Context, t *testing.T, client *ec2.Client) string {
	t.Helper()
	described, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	if err != nil {
		t.Fatal(err)
	}
	var last types.Instance
	for _, reservation := range described.Reservations {
		for _, instance := range reservation.Instances {
			if last.LaunchTime == nil || instance.LaunchTime.After(*last.LaunchTime) {
				last = instance
			}
		}
	}
	return aws.ToString(last.InstanceId)
}
