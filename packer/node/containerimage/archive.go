package containerimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// Annotations of an index's descriptors that hold an image's name: containerd's own
	// is the whole name, OCI's may be a tag alone.
	nameAnnotation = "io.containerd.image.name"
	refAnnotation  = "org.opencontainers.image.ref.name"

	maxManifest = 4 << 20 // of an index, a manifest or a configuration
)

// Archived is an image in a file that another tool has made.
type Archived struct {
	Names []string // whole references
	Image v1.Image
}

// ReadArchive lists the images of an archive: an OCI layout in a tar, as `skopeo copy`,
// `docker buildx build --output type=oci` and `ctr images export` write it, or what
// `docker save` writes. Of an image for several platforms it takes linux/amd64. The
// manifest stays as it is, and with it the digest by which people name the image. Layers
// are read when the image is written.
func ReadArchive(file string) ([]Archived, error) {
	entries, err := listTar(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var images []Archived
	switch {
	case entries["index.json"] != nil:
		images, err = readLayout(entries)
	case entries["manifest.json"] != nil:
		images, err = readDocker(file)
	default:
		return nil, fmt.Errorf("read %s: it is no image archive: it holds neither index.json (OCI) nor manifest.json (docker save)", file)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("read %s: it holds no image for linux/amd64", file)
	}
	return images, nil
}

// entry is a regular file in a tar.
type entry struct {
	file       string
	start, end int64
}

func (e *entry) open() (io.ReadCloser, error) {
	f, err := os.Open(e.file)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, e.start, e.end-e.start), f}, nil
}

func (e *entry) json(into any) error {
	r, err := e.open()
	if err != nil {
		return err
	}
	defer r.Close()
	return json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(into)
}

// listTar finds the files of a tar that is not compressed.
func listTar(file string) (map[string]*entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries := map[string]*entry{}
	for reader := tar.NewReader(f); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar archive (a compressed one must be unpacked first): %w", err)
		}
		if header.Typeflag == tar.TypeReg {
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			entries[path.Clean(header.Name)] = &entry{file: file, start: at, end: at + header.Size}
		}
	}
}

// readLayout reads an OCI layout.
func readLayout(entries map[string]*entry) ([]Archived, error) {
	var index v1.IndexManifest
	if err := entries["index.json"].json(&index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var images []Archived
	for _, descriptor := range index.Manifests {
		reference := descriptor.Annotations[nameAnnotation]
		if reference == "" {
			reference = descriptor.Annotations[refAnnotation]
		}
		image, err := findPlatform(entries, descriptor, 0)
		if err != nil {
			return nil, err
		}
		if image == nil {
			continue
		}
		if _, err := name.NewTag(reference, name.StrictValidation); err != nil {
			return nil, fmt.Errorf("image %s has no whole name such as registry.example.com/team/tool:1.0 in its annotations (it has %q)", descriptor.Digest, reference)
		}
		images = append(images, Archived{Names: []string{reference}, Image: image})
	}
	return images, nil
}

// findPlatform follows indexes to the image for linux/amd64; nil when there is none.
func findPlatform(entries map[string]*entry, descriptor v1.Descriptor, depth int) (v1.Image, error) {
	if p := descriptor.Platform; p != nil && (p.OS != "linux" || p.Architecture != "amd64") {
		return nil, nil
	}
	blobs := blobs{entries: entries, descriptor: descriptor}
	if descriptor.MediaType.IsImage() {
		raw, err := blobs.read(descriptor.Digest)
		if err != nil {
			return nil, err
		}
		blobs.manifest = raw
		image, err := partial.CompressedToImage(blobs)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", descriptor.Digest, err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", descriptor.Digest, err)
		}
		if config.OS != "linux" || config.Architecture != "amd64" {
			return nil, nil
		}
		return image, nil
	}
	if !descriptor.MediaType.IsIndex() || depth > 2 {
		return nil, nil
	}
	raw, err := blobs.read(descriptor.Digest)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index %s: %w", descriptor.Digest, err)
	}
	for _, inner := range index.Manifests {
		if image, err := findPlatform(entries, inner, depth+1); image != nil || err != nil {
			return image, err
		}
	}
	return nil, nil
}

// blobs is an image of an OCI layout, as go-containerregistry's partial wants it.
type blobs struct {
	entries    map[string]*entry
	descriptor v1.Descriptor
	manifest   []byte
}

func (b blobs) find(digest v1.Hash) (*entry, error) {
	e := b.entries[blobPath(digest)]
	if e == nil {
		return nil, fmt.Errorf("blob %s is missing", digest)
	}
	return e, nil
}

// read reads a small blob and checks it against its digest.
func (b blobs) read(digest v1.Hash) ([]byte, error) {
	e, err := b.find(digest)
	if err != nil {
		return nil, err
	}
	r, err := e.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || got != digest {
		return nil, fmt.Errorf("blob %s has another content: its digest is %s", digest, got)
	}
	return raw, nil
}

// RawManifest, MediaType, RawConfigFile and LayerByDigest make blobs a partial.CompressedImageCore.
func (b blobs) RawManifest() ([]byte, error) { return b.manifest, nil }

// MediaType is the manifest's.
func (b blobs) MediaType() (types.MediaType, error) { return b.descriptor.MediaType, nil }

// RawConfigFile is the image's configuration.
func (b blobs) RawConfigFile() ([]byte, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(b.manifest))
	if err != nil {
		return nil, err
	}
	return b.read(manifest.Config.Digest)
}

// LayerByDigest is one of its layers.
func (b blobs) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(b.manifest))
	if err != nil {
		return nil, err
	}
	for _, descriptor := range append(slices.Clone(manifest.Layers), manifest.Config) {
		if descriptor.Digest == digest {
			e, err := b.find(digest)
			return blob{entry: e, descriptor: descriptor}, err
		}
	}
	return nil, fmt.Errorf("there is no layer %s", digest)
}

// blob is a layer as it lies in the archive.
type blob struct {
	*entry
	descriptor v1.Descriptor
}

func (b blob) Digest() (v1.Hash, error)            { return b.descriptor.Digest, nil }
func (b blob) Size() (int64, error)                { return b.descriptor.Size, nil }
func (b blob) MediaType() (types.MediaType, error) { return b.descriptor.MediaType, nil }
func (b blob) Compressed() (io.ReadCloser, error)  { return b.open() }

// readDocker reads what `docker save` writes.
func readDocker(file string) ([]Archived, error) {
	opener := func() (io.ReadCloser, error) { return os.Open(file) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, err
	}
	var images []Archived
	for _, descriptor := range manifest {
		if len(descriptor.RepoTags) == 0 {
			return nil, fmt.Errorf("image %s has no name: save it by name and tag, not by id", descriptor.Config)
		}
		var names []string
		var tag name.Tag
		for _, reference := range descriptor.RepoTags {
			if tag, err = name.NewTag(reference); err != nil {
				return nil, err
			}
			names = append(names, familiar(tag))
		}
		image, err := tarball.Image(opener, &tag)
		if err != nil {
			return nil, err
		}
		images = append(images, Archived{Names: names, Image: image})
	}
	return images, nil
}

// familiar is a name as kubelet and containerd write it: Docker Hub is docker.io there.
func familiar(tag name.Tag) string {
	if tag.RegistryStr() == name.DefaultRegistry {
		return "docker.io/" + tag.RepositoryStr() + ":" + tag.TagStr()
	}
	return tag.Name()
}
