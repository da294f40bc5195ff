package containerimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func archive(t *testing.T, images ...Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, images, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// find is an image of an archive, by its name.
func find(t *testing.T, archive []byte, reference string) v1.Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	images, err := ReadArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		if slices.Contains(image.Names, reference) {
			return image.Image
		}
	}
	t.Fatalf("there is no image %s", reference)
	return nil
}

// read reads an image back as a container runtime would.
func read(t *testing.T, archive []byte, reference string) (v1.Image, map[string]*tar.Header, map[string]string) {
	t.Helper()
	image := find(t, archive, reference)
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%s has %d layers, %v, want one", reference, len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	headers, files := map[string]*tar.Header{}, map[string]string{}
	reader := tar.NewReader(content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return image, headers, files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		headers[header.Name], files[header.Name] = header, string(body)
	}
}

func TestAnImageHoldsItsFiles(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	image, headers, files := read(t, archive(t, Image{
		Names:      []string{"localhost/test/image:1"},
		Entrypoint: []string{"/usr/bin/program"},
		User:       "65532:65532",
		Files: []File{
			{Path: "/usr/bin/program", Source: program},
			{Path: "/usr/bin/alias", Link: "program"},
			{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root")},
			{Path: "/tmp", Directory: true, Mode: 0o1777},
		},
	}), "localhost/test/image:1")

	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/usr/bin/program"}) {
		t.Errorf("the configuration is %+v", config)
	}
	for _, want := range []struct {
		name    string
		kind    byte
		mode    int64
		content string
	}{
		{"etc/", tar.TypeDir, 0o755, ""},
		{"etc/passwd", tar.TypeReg, 0o644, "root"},
		{"tmp/", tar.TypeDir, 0o1777, ""},
		{"usr/", tar.TypeDir, 0o755, ""},
		{"usr/bin/", tar.TypeDir, 0o755, ""},
		{"usr/bin/alias", tar.TypeSymlink, 0o755, ""},
		{"usr/bin/program", tar.TypeReg, 0o755, "binary"},
	} {
		header := headers[want.name]
		if header == nil {
			t.Errorf("%s is missing", want.name)
			continue
		}
		if header.Typeflag != want.kind || header.Mode != want.mode || files[want.name] != want.content || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s is %+v with %q", want.name, header, files[want.name])
		}
	}
	if len(headers) != 7 {
		t.Errorf("the layer has %d entries, want 7", len(headers))
	}
}

func TestAnArchiveHoldsSeveralImagesAndNames(t *testing.T) {
	out := archive(t,
		Image{Names: []string{"localhost/test/one:1", "localhost/test/one:latest"}, Files: []File{{Path: "/one", Content: []byte("1")}}},
		Image{Names: []string{"localhost/test/two:2"}, Files: []File{{Path: "/two", Content: []byte("2")}}},
	)
	for reference, file := range map[string]string{"localhost/test/one:1": "one", "localhost/test/one:latest": "one", "localhost/test/two:2": "two"} {
		if _, headers, _ := read(t, out, reference); headers[file] == nil {
			t.Errorf("%s does not hold %s", reference, file)
		}
	}
}

func TestTheSameFilesMakeTheSameImage(t *testing.T) {
	files := []File{{Path: "/a", Content: []byte("a")}, {Path: "/b/c", Content: []byte("c")}, {Path: "/b/d", Link: "c"}}
	names := []string{"localhost/test/image:1"}
	first := archive(t, Image{Names: names, Files: files})
	slices.Reverse(files)
	if second := archive(t, Image{Names: names, Files: files}); !bytes.Equal(first, second) {
		t.Error("the order of the files changed the image")
	}
}

func TestAMissingFileOrABadNameIsAnError(t *testing.T) {
	for name, image := range map[string]Image{
		"a missing file":        {Names: []string{"localhost/test/image:1"}, Files: []File{{Path: "/a", Source: "/no/such/file"}}},
		"a name without a tag":  {Names: []string{"localhost/test/image"}},
		"a name in upper case":  {Names: []string{"localhost/Test/image:1"}},
		"a name with no domain": {Names: []string{"image:1"}},
	} {
		if err := Write(io.Discard, []Image{image}, nil); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
