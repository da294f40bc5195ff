package ec2_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestAnImageIsSharedWithThoseThatAreNamedAndWithEveryoneOnlyUnblocked(t *testing.T) {
	a := newAccount(t)
	id := a.register(t, "image", a.snapshot(t))
	const (
		organization = "arn:aws:organizations::111122223333:organization/o-abcdefghij"
		unit         = "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678"
	)
	modify := func(add, remove []types.LaunchPermission) error {
		_, err := a.ec2.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{Add: add, Remove: remove}})
		return err
	}
	named := []types.LaunchPermission{{UserId: aws.String(friend)}, {OrganizationArn: aws.String(organization)}, {OrganizationalUnitArn: aws.String(unit)}}
	if err := errors.Join(modify(named, nil), modify(named[:1], named[1:2])); err != nil {
		t.Fatal(err)
	}
	out, err := a.ec2.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil || len(out.LaunchPermissions) != 2 || *out.LaunchPermissions[0].UserId != friend || *out.LaunchPermissions[1].OrganizationalUnitArn != unit {
		t.Errorf("permissions %+v, %v", out, err)
	}
	expect(t, "a malformed account", modify([]types.LaunchPermission{{UserId: aws.String("1234")}}, nil), "InvalidAMIAttributeItemValue")
	expect(t, "a malformed organization", modify([]types.LaunchPermission{{OrganizationArn: aws.String(unit)}}, nil), "InvalidAMIAttributeItemValue")
	everyone := []types.LaunchPermission{{Group: types.PermissionGroupAll}}
	expect(t, "everyone", modify(everyone, nil), "OperationNotPermitted")
	if _, err := a.ec2.DisableImageBlockPublicAccess(t.Context(), &ec2.DisableImageBlockPublicAccessInput{}); err != nil {
		t.Fatal(err)
	}
	if err := modify(everyone, nil); err != nil || !*image(t, a.ec2, id).Public {
		t.Errorf("everyone, unblocked: %v", err)
	}
	if _, err := a.ec2.EnableImageBlockPublicAccess(t.Context(), &ec2.EnableImageBlockPublicAccessInput{ImageBlockPublicAccessState: "block-new-sharing"}); err != nil {
		t.Fatal(err)
	}
	if state, err := a.ec2.GetImageBlockPublicAccessState(t.Context(), &ec2.GetImageBlockPublicAccessStateInput{}); err != nil || *state.ImageBlockPublicAccessState != "block-new-sharing" || !*image(t, a.ec2, id).Public {
		t.Errorf("a block is on new sharing only: %v", err)
	}
}

func TestAnImageEncryptedWithTheAccountsOwnKeyCannotBeShared(t *testing.T) {
	a := newAccount(t)
	for key, want := range map[string]string{"": "InvalidParameter", "arn:aws:kms:us-west-2:111122223333:key/abc": "<nil>"} {
		id := a.register(t, "image-"+strings.Trim(want, "<>"), a.snapshot(t, func(in *ebs.StartSnapshotInput) {
			in.Encrypted = aws.Bool(true)
			if key != "" {
				in.KmsKeyArn = &key
			}
		}))
		_, err := a.ec2.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{
			ImageId: &id, Attribute: aws.String("launchPermission"), OperationType: types.OperationTypeAdd, UserIds: []string{friend},
		})
		expect(t, "key "+key, err, want)
	}
}

func TestASnapshotIsSharedWithAccounts(t *testing.T) {
	a := newAccount(t)
	id := a.snapshot(t)
	modify := func(change types.CreateVolumePermissionModifications) error {
		_, err := a.ec2.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{
			SnapshotId: &id, Attribute: types.SnapshotAttributeNameCreateVolumePermission, CreateVolumePermission: &change,
		})
		return err
	}
	users := []types.CreateVolumePermission{{UserId: aws.String(friend)}, {UserId: aws.String("777788889999")}}
	if err := errors.Join(modify(types.CreateVolumePermissionModifications{Add: users}), modify(types.CreateVolumePermissionModifications{Remove: users[1:]})); err != nil {
		t.Fatal(err)
	}
	out, err := a.ec2.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{SnapshotId: &id, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	if err != nil || len(out.CreateVolumePermissions) != 1 || *out.CreateVolumePermissions[0].UserId != friend {
		t.Errorf("%+v, %v", out, err)
	}
	err = modify(types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{{UserId: aws.String("1")}}})
	expect(t, "a malformed account", err, "InvalidAMIAttributeItemValue")
}

func TestDeprecationIsToTheMinuteAndCanBeTakenBack(t *testing.T) {
	a := newAccount(t)
	id := a.register(t, "image", a.snapshot(t))
	at := time.Now().Add(48 * time.Hour)
	enable := func(at time.Time) error {
		_, err := a.ec2.EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{ImageId: &id, DeprecateAt: &at})
		return err
	}
	if err := enable(at); err != nil {
		t.Fatal(err)
	}
	if got, want := *image(t, a.ec2, id).DeprecationTime, at.UTC().Round(time.Minute).Format("2006-01-02T15:04:05.000Z"); got != want {
		t.Errorf("deprecated at %s, want %s", got, want)
	}
	expect(t, "in the past", enable(time.Now().Add(-time.Hour)), "InvalidParameterValue")
	expect(t, "in eleven years", enable(time.Now().AddDate(11, 0, 0)), "InvalidParameterValue")
	if _, err := a.ec2.DisableImageDeprecation(t.Context(), &ec2.DisableImageDeprecationInput{ImageId: &id}); err != nil || image(t, a.ec2, id).DeprecationTime != nil {
		t.Errorf("taken back: %v", err)
	}
}
