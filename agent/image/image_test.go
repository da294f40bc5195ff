package image_test

import (
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func TestReadTakesWhatTheAgentNeeds(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	if err := root.Apply(rootfs.File{Path: image.Path, Data: []byte(`{"kubernetes":"1.37.2","containerd":"2.4.2","pauseImage":"localhost/ovenbird/pause:1.37.2"}`)}); err != nil {
		t.Fatal(err)
	}
	got, err := image.Read(root)
	if want := (image.Release{Kubernetes: "1.37.2", PauseImage: "localhost/ovenbird/pause:1.37.2"}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if minor, err := got.Minor(); minor != 37 || err != nil {
		t.Errorf("minor is %d, %v", minor, err)
	}
}

func TestABrokenDescriptionNamesFileAndField(t *testing.T) {
	for content, want := range map[string]string{
		`{`:                                   "read /etc/ovenbird/release.json: unexpected end of JSON input",
		`{"kubernetes":"2","pauseImage":"x"}`: `read /etc/ovenbird/release.json: kubernetes: "2" is not a version such as 1.37.2`,
		`{"kubernetes":"1.37.2"}`:             "read /etc/ovenbird/release.json: pauseImage is missing",
	} {
		root := rootfs.Root(t.TempDir())
		if err := root.Apply(rootfs.File{Path: image.Path, Data: []byte(content)}); err != nil {
			t.Fatal(err)
		}
		if _, err := image.Read(root); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if _, err := image.Read(rootfs.Root(t.TempDir())); err == nil || !strings.Contains(err.Error(), "release.json") {
		t.Errorf("got %v", err)
	}
}
