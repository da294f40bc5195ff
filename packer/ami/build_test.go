package ami

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

func describe(t *testing.T, config aws.Config, id string) ec2types.Image {
	t.Helper()
	out, err := ec2.NewFromConfig(config).DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Images[0]
}

func TestADiskBecomesAnImage(t *testing.T) {
	tr := newTrial(t)
	tr.more = map[string]any{"ami_name": "node-{{.KubernetesVersion}}-{{.Content}}", "ami_description": "a node", "tags": map[string]string{"version": "{{.KubernetesVersion}}"}, "volume_size": 4}
	artifact := tr.must(t)
	id := artifact.State("image_id").(string)
	if want := tr.aws.Regions[0] + ":" + id; artifact.Id() != want {
		t.Errorf("the artifact's id is %s, want %s", artifact.Id(), want)
	}
	image := describe(t, tr.aws.Config(), id)
	if !strings.HasPrefix(*image.Name, "node-1.37.2-") || image.BootMode != ec2types.BootModeValuesUefi || image.TpmSupport != ec2types.TpmSupportValuesV20 ||
		image.ImdsSupport != ec2types.ImdsSupportValuesV20 || !*image.EnaSupport || image.Architecture != ec2types.ArchitectureValuesX8664 {
		t.Errorf("the image is %+v", image)
	}
	root := image.BlockDeviceMappings[0].Ebs
	if *root.VolumeSize != 4 || root.VolumeType != ec2types.VolumeTypeGp3 || !*root.DeleteOnTermination {
		t.Errorf("its volume is %+v", root)
	}
	if tagOf(image.Tags, "version") != "1.37.2" || tagOf(image.Tags, tagContent) != artifact.State("content_sha256") || tagOf(image.Tags, tagPublished) == "" {
		t.Errorf("its tags are %+v", image.Tags)
	}
	tr.holds(t, id)
	if puts := tr.aws.Puts(*root.SnapshotId); len(puts) != 6 {
		t.Errorf("%d blocks were put, want the 6 that have data", len(puts))
	}
	if left, _ := filepath.Glob(filepath.Join(tr.state, "*.journal")); len(left) > 0 {
		t.Errorf("a finished build has a journal: %v", left)
	}
	if err := artifact.Destroy(); err != nil {
		t.Fatal(err)
	}
	tr.clean(t)
}

func TestAnUnchangedDiskIsFoundAndNotUploadedAgain(t *testing.T) {
	tr := newTrial(t)
	first := tr.must(t)
	starts, puts := tr.aws.Calls("StartSnapshot"), tr.aws.Calls("PutSnapshotBlock")
	// The same bytes in another file.
	tr.disk = filepath.Join(t.TempDir(), "again.raw")
	writeDisk(t, tr.disk, 40, 0, 1, 5, 6, 7, 30)
	second := tr.must(t)
	if second.Id() != first.Id() || tr.aws.Calls("StartSnapshot") != starts || tr.aws.Calls("PutSnapshotBlock") != puts {
		t.Errorf("%s, then %s with %d snapshots", first.Id(), second.Id(), tr.aws.Calls("StartSnapshot"))
	}
	// What a build has found it does not remove.
	if err := second.Destroy(); err != nil {
		t.Fatal(err)
	}
	describe(t, tr.aws.Config(), first.State("image_id").(string))
	tr.more["volume_size"], tr.more["ami_name"] = 5, "third"
	if third := tr.must(t); third.Id() == first.Id() {
		t.Error("an image with other options counts as the same")
	}
	tr.more = map[string]any{"packer_force": true, "ami_name": "another"}
	if fourth := tr.must(t); fourth.Id() == first.Id() {
		t.Error("with -force nothing is made")
	}
}

func TestOnlyTheBlocksThatDifferFromAnEarlierSnapshotAreUploaded(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
	tr.more["ami_name"] = "node-{{.Content}}"
	first := tr.must(t)
	tr.disk = filepath.Join(t.TempDir(), "next.raw")
	writeDisk(t, tr.disk, 40, 0, 1, 5, 7, 31) // without 6 and 30, with 31
	second := tr.must(t)
	image := describe(t, tr.aws.Config(), second.State("image_id").(string))
	puts := tr.aws.Puts(*image.BlockDeviceMappings[0].Ebs.SnapshotId)
	if len(puts) != 3 || puts[6] != 1 || puts[30] != 1 || puts[31] != 1 {
		t.Errorf("the blocks that were put are %v, want 6, 30 and 31", puts)
	}
	tr.holds(t, *image.ImageId)
	tr.holdsAlone(t, first, second)

	tr.more["parent_snapshot"] = "snap-0123456789abcdef0"
	tr.more["packer_force"], tr.more["ami_name"] = true, "third"
	if _, err := tr.run(t.Context()); !errors.Is(err, errNoParent) {
		t.Errorf("a parent that nobody knows gives %v", err)
	}
	tr.more["parent_snapshot"] = "none"
	third := tr.must(t)
	image = describe(t, tr.aws.Config(), third.State("image_id").(string))
	if puts := tr.aws.Puts(*image.BlockDeviceMappings[0].Ebs.SnapshotId); len(puts) != 5 {
		t.Errorf("without a parent %d blocks were put, want 5", len(puts))
	}
}

func TestAParentThatIsRefusedIsDoneWithout(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
	tr.more["ami_name"] = "node-{{.Content}}"
	parent := describe(t, tr.aws.Config(), tr.must(t).State("image_id").(string)).BlockDeviceMappings[0].Ebs.SnapshotId
	writeDisk(t, tr.disk, 40, 0, 1, 5, 7, 31)
	tr.aws.Fail(t, fault.Fault{Action: "StartSnapshot", Effect: fault.Deny, Count: 1})
	artifact := tr.must(t)
	tr.holds(t, artifact.State("image_id").(string))

	writeDisk(t, tr.disk, 40, 0, 1, 5, 7, 32)
	tr.more["parent_snapshot"] = *parent
	tr.aws.Fail(t, fault.Fault{Action: "StartSnapshot", Effect: fault.Deny, Count: 1})
	if _, err := tr.run(t.Context()); !retry.Denied(err) {
		t.Errorf("a parent that was asked for by name and is refused gives %v", err)
	}
}

// holdsAlone checks that an image lives on when its parent is removed.
func (tr *trial) holdsAlone(t *testing.T, parent, child *Artifact) {
	t.Helper()
	if err := parent.Destroy(); err != nil {
		t.Fatal(err)
	}
	tr.holds(t, child.State("image_id").(string))
}

func TestAnImageOutlivesAMapThatCannotBeKept(t *testing.T) {
	tr := newTrial(t)
	if err := os.WriteFile(filepath.Join(tr.state, "snapshots"), nil, 0o600); err != nil { // where a directory is wanted
		t.Fatal(err)
	}
	artifact := tr.must(t)
	tr.holds(t, artifact.State("image_id").(string))
	if !slices.ContainsFunc(tr.ui.lines, func(line string) bool { return strings.Contains(line, "keep the block map") }) {
		t.Errorf("nothing is said about the map: %q", tr.ui.lines)
	}
}

func TestTwoBuildsOfADiskToTwoRegionsGoOnSideBySide(t *testing.T) {
	tr := newTrial(t)
	tr.more["region"] = tr.aws.Regions[0]
	other := *tr
	other.more = map[string]any{"region": tr.aws.Regions[1]}
	other.ui = newListener(t.Output())
	tr.ui.hear = func(line string) {
		if strings.HasPrefix(line, "Uploading") {
			other.must(t)
		}
	}
	tr.must(t)
	if left := tr.aws.Left(); len(left) != 4 {
		t.Errorf("there are %v, want an image and a snapshot in each of two regions", left)
	}
}

func TestAFaultThatPassesIsOutlasted(t *testing.T) {
	for name, faults := range map[string][]fault.Fault{
		"throttled puts":             {{Action: "PutSnapshotBlock", Effect: fault.Throttle, Count: 20}},
		"failing puts":               {{Action: "PutSnapshotBlock", Effect: fault.Fail, Count: 4}},
		"lost puts":                  {{Action: "PutSnapshotBlock", Effect: fault.Lose, Count: 3}},
		"a lost StartSnapshot":       {{Action: "StartSnapshot", Effect: fault.Lose, Count: 1}},
		"a lost CompleteSnapshot":    {{Action: "CompleteSnapshot", Effect: fault.Lose, Count: 1}},
		"a lost RegisterImage":       {{Action: "RegisterImage", Effect: fault.Lose, Count: 1}},
		"everything throttled twice": {{Effect: fault.Throttle, Share: 0.3}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrial(t)
			for _, f := range faults {
				tr.aws.Fail(t, f)
			}
			artifact := tr.must(t)
			tr.aws.Faults.Clear()
			tr.holds(t, artifact.State("image_id").(string))
			if left := tr.aws.Left(); len(left) != 2 {
				t.Errorf("there are %v, want one image and its snapshot", left)
			}
		})
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		fault fault.Fault
		want  string
		puts  int // at most
	}{
		"AccessDenied for a put":      {fault.Fault{Action: "PutSnapshotBlock", Effect: fault.Deny}, "AccessDenied", 8},
		"AccessDenied for the seal":   {fault.Fault{Action: "CompleteSnapshot", Effect: fault.Deny}, "bake.json", 6},
		"AccessDenied for the start":  {fault.Fault{Action: "StartSnapshot", Effect: fault.Deny}, "AccessDenied", 0},
		"UnauthorizedOperation":       {fault.Fault{Action: "RegisterImage", Effect: fault.Deny}, "UnauthorizedOperation", 6},
		"no right to tag":             {fault.Fault{Action: "CreateTags", Effect: fault.Deny}, "UnauthorizedOperation", 6},
		"puts that never get through": {fault.Fault{Action: "PutSnapshotBlock", Effect: fault.Fail}, "5 attempts", 30},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
			tr.aws.Fail(t, test.fault)
			_, err := tr.run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %s in it", err, test.want)
			}
			if puts := tr.aws.Calls("PutSnapshotBlock"); puts > test.puts {
				t.Errorf("PutSnapshotBlock was called %d times, want at most %d", puts, test.puts)
			}
			tr.clean(t)
		})
	}
}

func TestACancelledBuildLeavesNothing(t *testing.T) {
	for name, when := range map[string]string{"while it uploads": "Uploading", "while it registers": "Registering"} {
		t.Run(name, func(t *testing.T) {
			tr := newTrial(t)
			tr.aws.Fail(t, fault.Fault{Action: "PutSnapshotBlock", Effect: fault.Delay, Wait: 20 * time.Millisecond})
			ctx, cancel := context.WithCancel(t.Context())
			tr.ui.hear = func(line string) {
				if strings.HasPrefix(line, when) {
					cancel()
				}
			}
			if _, err := tr.run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			tr.clean(t)
		})
	}
}

func TestABlockWithAWrongChecksumIsRefusedOnce(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
	tr.ui.hear = func(line string) {
		if !strings.HasPrefix(line, "Uploading") {
			return
		}
		f, err := os.OpenFile(tr.disk, os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("written behind its back"), 5*512<<10)
			f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	_, err := tr.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "block 5 of the disk has changed") || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("the error is %v", err)
	}
	if puts := tr.aws.Calls("PutSnapshotBlock"); puts > 6 {
		t.Errorf("PutSnapshotBlock was called %d times for 6 blocks", puts)
	}
	tr.clean(t)
}

func TestANameThatIsTakenShowsBeforeTheUpload(t *testing.T) {
	tr := newTrial(t)
	tr.more["ami_name"] = "node"
	tr.must(t)
	writeDisk(t, tr.disk, 40, 0, 9)
	puts := tr.aws.Calls("PutSnapshotBlock")
	if _, err := tr.run(t.Context()); err == nil || !strings.Contains(err.Error(), "{{timestamp}}") {
		t.Errorf("the error is %v", err)
	}
	if tr.aws.Calls("PutSnapshotBlock") != puts {
		t.Error("the disk was uploaded all the same")
	}
}
