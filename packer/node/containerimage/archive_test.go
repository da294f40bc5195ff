package containerimage

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// twoLayers is an image of compressed layers, as registries have them.
func twoLayers(t *testing.T) v1.Image {
	t.Helper()
	image, err := random.Image(64, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

func TestAnArchivedImageKeepsItsDigest(t *testing.T) {
	image := twoLayers(t)
	write := func(images ...Archived) []byte {
		var out bytes.Buffer
		if err := Write(&out, nil, images); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	const reference = "registry.example.com/team/tool:1.0"
	first := write(Archived{Names: []string{reference}, Image: image})
	read := find(t, first, reference)
	if got, want := digest(t, read), digest(t, image); got != want {
		t.Errorf("the image came back as %s, was %s", got, want)
	}
	if again := write(Archived{Names: []string{reference}, Image: read}); !bytes.Equal(first, again) {
		t.Error("an archive that is read and written is another archive")
	}
}

func TestWhatDockerSavesIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "saved.tar")
	tag, err := name.NewTag("busybox:1.37")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, twoLayers(t)); err != nil {
		t.Fatal(err)
	}
	images, err := ReadArchive(file)
	if err != nil || len(images) != 1 || images[0].Names[0] != "docker.io/library/busybox:1.37" {
		t.Fatalf("read %+v, %v", images, err)
	}
	if err := Write(new(bytes.Buffer), nil, images); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	var nameless bytes.Buffer
	if err := Write(&nameless, nil, []Archived{{Names: []string{"registry.example.com/a:1"}, Image: twoLayers(t)}}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"nothing", nil, "it is no image archive"},
		{"a compressed archive", append([]byte{0x1f, 0x8b}, make([]byte, 600)...), "a compressed one must be unpacked first"},
		{"an image whose name is only a tag", bytes.Replace(nameless.Bytes(), []byte("registry.example.com/a:1"), []byte("1-------.-----------.--1"), 1), "has no whole name"},
		{"another architecture", bytes.Replace(nameless.Bytes(), []byte(`{"architecture":"amd64","os":"linux"}`), []byte(`{"architecture":"arm64","os":"linux"}`), 1), "no image for linux/amd64"},
	} {
		file := filepath.Join(t.TempDir(), "archive.tar")
		if err := os.WriteFile(file, test.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadArchive(file); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := ReadArchive("/no/such/archive.tar"); err == nil {
		t.Error("an archive that is not there was read")
	}
	twice := Archived{Names: []string{"registry.example.com/a:1"}, Image: twoLayers(t)}
	if err := Write(new(bytes.Buffer), nil, []Archived{twice, twice}); err == nil || !strings.Contains(err.Error(), "two images of the name") {
		t.Errorf("two images of one name: %v", err)
	}
}
