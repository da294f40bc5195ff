package containerimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Write writes an OCI layout, as `ctr images import` reads it: first the images that are
// made of files, then those of archives, whose manifests and layers are copied as they
// are. Two images of one name are an error.
func Write(w io.Writer, images []Image, archived []Archived) error {
	all := make([]Archived, 0, len(images)+len(archived))
	for _, image := range images {
		built, err := image.build()
		if err != nil {
			return fmt.Errorf("make image %s: %w", strings.Join(image.Names, ", "), err)
		}
		all = append(all, Archived{Names: image.Names, Image: built})
	}
	all = append(all, archived...)

	out := layoutWriter{tar: tar.NewWriter(w), blobs: map[v1.Hash]bool{}, names: map[string]bool{}}
	for _, image := range all {
		if err := out.add(image); err != nil {
			return fmt.Errorf("write container image %s: %w", strings.Join(image.Names, ", "), err)
		}
	}
	if err := out.close(); err != nil {
		return fmt.Errorf("write container images: %w", err)
	}
	return nil
}

// layoutWriter writes an OCI layout into a tar, each blob once.
type layoutWriter struct {
	tar   *tar.Writer
	blobs map[v1.Hash]bool
	names map[string]bool
	index []v1.Descriptor
}

func (l *layoutWriter) add(image Archived) error {
	layers, err := image.Image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if err := l.layer(layer); err != nil {
			return err
		}
	}
	config, err := image.Image.RawConfigFile()
	if err != nil {
		return err
	}
	if _, err := l.blob(config); err != nil {
		return err
	}
	manifest, err := image.Image.RawManifest()
	if err != nil {
		return err
	}
	digest, err := l.blob(manifest)
	if err != nil {
		return err
	}
	mediaType, err := image.Image.MediaType()
	if err != nil {
		return err
	}
	for _, reference := range image.Names {
		if _, err := name.NewTag(reference, name.StrictValidation); err != nil {
			return err
		}
		if l.names[reference] {
			return fmt.Errorf("there are two images of the name %s", reference)
		}
		l.names[reference] = true
		l.index = append(l.index, v1.Descriptor{
			MediaType: mediaType, Digest: digest, Size: int64(len(manifest)),
			Platform:    &v1.Platform{OS: "linux", Architecture: "amd64"},
			Annotations: map[string]string{nameAnnotation: reference},
		})
	}
	return nil
}

func (l *layoutWriter) layer(layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil || l.blobs[digest] {
		return err
	}
	size, err := layer.Size()
	if err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	l.blobs[digest] = true
	return l.file(blobPath(digest), size, content)
}

func (l *layoutWriter) blob(content []byte) (v1.Hash, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil || l.blobs[digest] {
		return digest, err
	}
	l.blobs[digest] = true
	return digest, l.file(blobPath(digest), size, bytes.NewReader(content))
}

// close writes what names the rest.
func (l *layoutWriter) close() error {
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: l.index})
	if err != nil {
		return err
	}
	if err := l.file("index.json", int64(len(index)), bytes.NewReader(index)); err != nil {
		return err
	}
	const version = `{"imageLayoutVersion":"1.0.0"}`
	if err := l.file("oci-layout", int64(len(version)), strings.NewReader(version)); err != nil {
		return err
	}
	return l.tar.Close()
}

func (l *layoutWriter) file(name string, size int64, content io.Reader) error {
	header := &tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := l.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(l.tar, content)
	return err
}

func blobPath(digest v1.Hash) string { return path.Join("blobs", digest.Algorithm, digest.Hex) }
