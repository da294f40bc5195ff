package ami

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
)

// Artifact is an image in one or more regions.
type Artifact struct {
	cloud  *cloud
	build  string
	home   string
	made   []journal.Resource // by this build; images that were found are not among them
	images map[string]string  // id by region
	state  map[string]any     // plain values: it crosses Packer's RPC
}

// BuilderId names the post-processor; Packer fixes the method's name.
func (a *Artifact) BuilderId() string { return BuilderID }

// Files is empty: the image is at AWS.
func (a *Artifact) Files() []string { return nil }

// Id is REGION:AMI for each region, divided by commas, as amazon-ebs has it.
func (a *Artifact) Id() string {
	var parts []string
	for _, region := range slices.Sorted(maps.Keys(a.images)) {
		parts = append(parts, region+":"+a.images[region])
	}
	return strings.Join(parts, ",")
}

func (a *Artifact) String() string {
	var out strings.Builder
	out.WriteString("AMIs were created:")
	for _, region := range slices.Sorted(maps.Keys(a.images)) {
		fmt.Fprintf(&out, "\n%s: %s", region, a.images[region])
	}
	return out.String()
}

// State answers post-processors: image_id (in the home region), images (region to id),
// content_sha256, generated_data.
func (a *Artifact) State(name string) any {
	switch name {
	case "image_id":
		return a.images[a.home]
	case "images":
		return maps.Clone(a.images)
	}
	return a.state[name]
}

// Destroy removes all that the build has made: images, snapshots, and parameters, which
// get back their values of before. Images that an earlier build has made stay.
func (a *Artifact) Destroy() error {
	ctx, cancel := context.WithTimeout(context.Background(), clearing)
	defer cancel()
	return a.cloud.undo(ctx, a.build, a.made, func(journal.Resource) error { return nil })
}
