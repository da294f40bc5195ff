package ami

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

const parameter = "/nodes/1.37.2/beta/image_id"

// everything is a template that uses all there is.
func (tr *trial) everything() {
	regions := tr.aws.Regions
	tr.more = map[string]any{
		"ami_name": "node-{{.Content}}", "region": regions[0], "ami_regions": regions[1:],
		"encrypt_boot": true, "kms_key_id": tr.key(regions[0]),
		"ami_users": []string{"444455556666"}, "snapshot_users": []string{"444455556666"},
		"ami_org_arns": []string{"arn:aws:organizations::111122223333:organization/o-abcdefghij"},
		"ami_ou_arns":  []string{"arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-abcdefgh"},
		"deprecate_at": "90d", "channel": "beta", "ssm_parameter": "/nodes/{{.KubernetesVersion}}/{{.Channel}}/image_id",
		"tags": map[string]string{"kind": "image"}, "snapshot_tags": map[string]string{"kind": "snapshot"},
	}
	keys := map[string]string{}
	for _, region := range regions[1:] {
		keys[region] = tr.key(region)
	}
	tr.more["region_kms_key_ids"] = keys
}

// key is a KMS key of a region.
func (tr *trial) key(region string) string {
	return "arn:aws:kms:" + region + ":" + tr.aws.Account + ":key/0a0a0a0a-0000-4000-8000-000000000000"
}

// value reads the parameter; "" when there is none.
func (tr *trial) value(t *testing.T, region string) string {
	t.Helper()
	out, err := ssm.NewFromConfig(tr.aws.In(region)).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(parameter)})
	if retry.Code(err) == "ParameterNotFound" {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return *out.Parameter.Value
}

func TestAnImageIsPublishedInAllRegions(t *testing.T) {
	tr := newTrial(t)
	tr.everything()
	artifact := tr.must(t)
	if len(tr.aws.Regions) < 2 {
		t.Fatal("there is one region only")
	}
	for _, region := range tr.aws.Regions {
		id := artifact.State("images").(map[string]string)[region]
		image, ok := tr.aws.Catalog.Image(region, id)
		if !ok {
			t.Fatalf("%s has no image %q", region, id)
		}
		want := []catalog.Permission{
			{User: "444455556666"},
			{Organization: "arn:aws:organizations::111122223333:organization/o-abcdefghij"},
			{Unit: "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-abcdefgh"},
		}
		for _, p := range want {
			if !slices.Contains(image.Permissions, p) {
				t.Errorf("%s: the permissions are %+v, want %+v among them", region, image.Permissions, p)
			}
		}
		if image.Public() {
			t.Errorf("%s: the image is public", region)
		}
		if days := time.Until(image.Deprecated).Hours() / 24; days < 89.9 || days > 90.1 {
			t.Errorf("%s: it is deprecated in %.1f days, want 90", region, days)
		}
		if image.Tags["kind"] != "image" || image.Tags[tagPublished] == "" {
			t.Errorf("%s: its tags are %v", region, image.Tags)
		}
		snapshot, ok := tr.aws.Catalog.Snapshot(region, image.Devices[0].Snapshot)
		if !ok || !snapshot.Encrypted || !strings.Contains(snapshot.KMSKey, region) || snapshot.Tags["kind"] != "snapshot" || snapshot.Tags[tagPublished] == "" {
			t.Errorf("%s: its snapshot is %+v", region, snapshot)
		}
		if !slices.Equal(snapshot.Permissions, []catalog.Permission{{User: "444455556666"}}) {
			t.Errorf("%s: its snapshot is shared with %v", region, snapshot.Permissions)
		}
		if got := tr.value(t, region); got != id {
			t.Errorf("%s: the parameter is %q, want %s", region, got, id)
		}
	}
	if err := artifact.Destroy(); err != nil {
		t.Fatal(err)
	}
	tr.clean(t)
	for _, region := range tr.aws.Regions {
		if got := tr.value(t, region); got != "" {
			t.Errorf("%s: after Destroy the parameter is %q", region, got)
		}
	}
}

func TestAParameterGetsItsOldValueBack(t *testing.T) {
	tr := newTrial(t)
	tr.everything()
	first := tr.must(t)
	writeDisk(t, tr.disk, 40, 0, 9)
	second := tr.must(t)
	region := tr.aws.Regions[0]
	if got := tr.value(t, region); got != second.State("image_id") {
		t.Errorf("the parameter is %q, want the second image", got)
	}
	if err := second.Destroy(); err != nil {
		t.Fatal(err)
	}
	if got := tr.value(t, region); got != first.State("image_id") {
		t.Errorf("the parameter is %q, want the first image", got)
	}
	// A value that somebody else has set since is not ours to change.
	tr.put(t, "by hand", "text")
	if err := first.Destroy(); err != nil {
		t.Fatal(err)
	}
	if got := tr.value(t, region); got != "by hand" {
		t.Errorf("the parameter is %q", got)
	}
	tr.clean(t)
}

// put sets the parameter as somebody else does.
func (tr *trial) put(t *testing.T, value, dataType string) {
	t.Helper()
	_, err := ssm.NewFromConfig(tr.aws.Config()).PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: aws.String(parameter), Value: aws.String(value), Type: ssmtypes.ParameterTypeString, DataType: aws.String(dataType), Overwrite: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAParameterGetsBackWhatIsNoImageAnyMore(t *testing.T) {
	tr := newTrial(t)
	tr.everything()
	region := tr.aws.Regions[0]
	tr.put(t, "not yet", "text")
	first := tr.must(t)
	writeDisk(t, tr.disk, 40, 0, 9)
	second := tr.must(t)
	id := first.State("image_id").(string)
	if _, err := ec2.NewFromConfig(tr.aws.Config()).DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: aws.String(id)}); err != nil {
		t.Fatal(err)
	}
	if err := second.Destroy(); err != nil {
		t.Fatal(err)
	}
	if got := tr.value(t, region); got != id {
		t.Errorf("the parameter is %q, want %s as before", got, id)
	}
	if err := first.Destroy(); err != nil {
		t.Fatal(err)
	}
	if got := tr.value(t, region); got != "not yet" {
		t.Errorf("the parameter is %q, want what it was at first", got)
	}
}

func TestABuildThatIsCancelledAsItAnnouncesLeavesNoParameter(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 200*time.Millisecond))
	tr.everything()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for tr.aws.Calls("PutParameter") < len(tr.aws.Regions) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := tr.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	tr.clean(t)
	time.Sleep(200 * time.Millisecond) // what was put would be in effect
	for _, region := range tr.aws.Regions {
		if got := tr.value(t, region); got != "" {
			t.Errorf("%s: the parameter is %q", region, got)
		}
	}
}

func TestARegionThatIsAddedLaterGetsACopyOnly(t *testing.T) {
	tr := newTrial(t)
	tr.more["ami_name"] = "node"
	first := tr.must(t)
	puts := tr.aws.Calls("PutSnapshotBlock")
	tr.more["ami_regions"] = tr.aws.Regions[1:2]
	second := tr.must(t)
	if tr.aws.Calls("PutSnapshotBlock") != puts || !strings.Contains(second.Id(), first.Id()) || len(second.State("images").(map[string]string)) != 2 {
		t.Errorf("%s, then %s", first.Id(), second.Id())
	}
}

func TestARegionWhoseKeyChangesGetsAnotherCopy(t *testing.T) {
	tr := newTrial(t)
	tr.everything()
	tr.more["ami_name"] = "node-{{uuid}}" // another each time
	first := tr.must(t).State("images").(map[string]string)
	away := tr.aws.Regions[1]
	keys := tr.more["region_kms_key_ids"].(map[string]string)
	keys[away] = strings.Replace(tr.key(away), "/0a0a", "/0b0b", 1)
	second := tr.must(t).State("images").(map[string]string)
	for _, region := range tr.aws.Regions {
		if (second[region] != first[region]) != (region == away) {
			t.Errorf("%s: %s, then %s", region, first[region], second[region])
		}
	}
}

func TestAFailureWhilePublishingLeavesNothing(t *testing.T) {
	for _, action := range []string{"CopyImage", "ModifyImageAttribute", "ModifySnapshotAttribute", "EnableImageDeprecation", "CreateTags", "PutParameter", "GetParameter"} {
		t.Run(action, func(t *testing.T) {
			tr := newTrial(t)
			tr.everything()
			tr.aws.Fail(t, fault.Fault{Action: action, Effect: fault.Deny, After: 1}) // the second region fails
			if _, err := tr.run(t.Context()); !retry.Denied(err) {
				t.Errorf("the error is %v", err)
			}
			tr.aws.Faults.Clear()
			if action == "GetParameter" { // which looks before it restores, so that a journal stays
				if _, err := tr.sweep(t); err != nil {
					t.Error(err)
				}
			}
			tr.clean(t)
			for _, region := range tr.aws.Regions {
				if got := tr.value(t, region); got != "" {
					t.Errorf("%s: the parameter is %q", region, got)
				}
			}
		})
	}
}

func TestALostAnswerWhilePublishingMakesNothingTwice(t *testing.T) {
	for _, action := range []string{"CopyImage", "ModifyImageAttribute", "CreateTags", "PutParameter"} {
		t.Run(action, func(t *testing.T) {
			tr := newTrial(t)
			tr.everything()
			tr.aws.Fail(t, fault.Fault{Action: action, Effect: fault.Lose, Count: 2})
			tr.must(t)
			if left := tr.aws.Left(); len(left) != 2*len(tr.aws.Regions) {
				t.Errorf("there are %v, want an image and a snapshot in each region", left)
			}
		})
	}
}

func TestARefusalAfterALostAnswerLeavesNothing(t *testing.T) {
	for _, action := range []string{"StartSnapshot", "RegisterImage", "CopyImage"} {
		t.Run(action, func(t *testing.T) {
			tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
			tr.everything()
			tr.more["ami_regions"] = tr.aws.Regions[1:2]
			tr.more["region_kms_key_ids"] = map[string]string{tr.aws.Regions[1]: tr.key(tr.aws.Regions[1])}
			tr.aws.Fail(t, fault.Fault{Action: action, Effect: fault.Lose, Count: 1})
			tr.aws.Fail(t, fault.Fault{Action: action, Effect: fault.Deny, After: 1})
			if _, err := tr.run(t.Context()); !retry.Denied(err) {
				t.Errorf("the error is %v", err)
			}
			tr.clean(t)
		})
	}
}

func TestACopyThatIsAskedForAgainInOtherWordsIsNotForgotten(t *testing.T) {
	tr := newTrial(t)
	tr.everything()
	tr.aws.Fail(t, fault.Fault{Action: "CopyImage", Effect: fault.Lose})
	for _, action := range []string{"DeregisterImage", "DeleteSnapshot"} { // so that the next build goes on
		tr.aws.Fail(t, fault.Fault{Action: action, Effect: fault.Deny})
	}
	if _, err := tr.run(t.Context()); !retry.Denied(err) {
		t.Errorf("the error is %v", err)
	}
	tr.aws.Faults.Clear()
	tr.more["tags"] = map[string]string{"kind": "another"}
	if _, err := tr.run(t.Context()); retry.Code(err) != "IdempotentParameterMismatch" {
		t.Errorf("the error is %v", err)
	}
	tr.clean(t)
}

func TestACancelledCopyLeavesNothing(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 200*time.Millisecond))
	tr.everything()
	ctx, cancel := context.WithCancel(t.Context())
	tr.ui.hear = func(line string) {
		if strings.HasPrefix(line, "Copying") {
			time.AfterFunc(20*time.Millisecond, cancel) // while the copies are pending
		}
	}
	if _, err := tr.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	tr.clean(t)
}

func TestTheSnapshotOfACopyThatIsGoneAlreadyIsRemoved(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 200*time.Millisecond))
	tr.everything()
	ctx, cancel := context.WithCancel(t.Context())
	tr.ui.hear = func(line string) {
		if strings.HasPrefix(line, "Copying") {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
	}
	tr.aws.Fail(t, fault.Fault{Action: "DeleteSnapshot", Effect: fault.Deny})
	if _, err := tr.run(ctx); !retry.Denied(err) {
		t.Errorf("the error is %v", err)
	}
	tr.aws.Faults.Clear()
	if _, err := tr.sweep(t); err != nil {
		t.Error(err)
	}
	tr.clean(t)
}

// writeCertificate writes a new certificate in PEM.
func writeCertificate(t *testing.T) (path string, raw []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotAfter: time.Now().Add(time.Hour)}
	raw, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, raw
}

func TestASignedImageStartsWithSecureBoot(t *testing.T) {
	tr := newTrial(t)
	path, raw := writeCertificate(t)
	tr.facts["secure_boot_certificate"] = path // as ovenbird-image tells it
	artifact := tr.must(t)
	image, _ := tr.aws.Catalog.Image(tr.aws.Regions[0], artifact.State("image_id").(string))
	text := string(image.UEFIData)
	if !strings.HasPrefix(text, "QU1aTlVFRkk") { // the catalog keeps it decoded, or as it came
		text = base64.StdEncoding.EncodeToString(image.UEFIData)
	}
	variables, err := uefivars.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range variables {
		names = append(names, v.Name)
		if !strings.Contains(string(v.Data), string(raw)) {
			t.Errorf("%s does not hold the certificate", v.Name)
		}
	}
	if want := []string{"PK", "KEK", "db"}; !slices.Equal(names, want) {
		t.Errorf("the variables are %v, want %v", names, want)
	}
}
