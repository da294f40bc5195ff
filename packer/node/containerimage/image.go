// Package containerimage makes container images out of files, without a registry, a
// Dockerfile or a container. An image is one layer: it unpacks anywhere, also where an
// overlay cannot be mounted on another. The same files make the same bytes.
package containerimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image says what is in a container image.
type Image struct {
	Names      []string // references, such as localhost/ovenbird/pause:1.37.2
	Entrypoint []string
	Command    []string
	User       string // as in an image's configuration; empty is root
	Files      []File
}

// File is one entry of the image's file system. Exactly one of Source, Content, Link
// and Directory is set. Parent directories appear by themselves.
type File struct {
	Path      string // absolute
	Mode      int64  // default 0755
	Source    string // a file of this machine
	Content   []byte
	Link      string // a symbolic link's target
	Directory bool
}

// build makes the image.
func (i Image) build() (v1.Image, error) {
	layer, err := newLayer(i.writeLayer)
	if err != nil {
		return nil, err
	}
	oci := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(oci, layer)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64",
		OS:           "linux",
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		Config: v1.Config{
			Entrypoint: i.Entrypoint,
			Cmd:        i.Command,
			User:       i.User,
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			WorkingDir: "/",
		},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{layer.digest}},
	})
}

// writeLayer writes the layer's tar: files by path, each after its directories.
func (i Image) writeLayer(w io.Writer) error {
	archive := tar.NewWriter(w)
	for _, file := range withParents(i.Files) {
		if err := file.write(archive); err != nil {
			return fmt.Errorf("add %s: %w", file.Path, err)
		}
	}
	return archive.Close()
}

// withParents sorts files by path and adds the directories above them.
func withParents(files []File) []File {
	known := map[string]File{}
	for _, file := range files {
		known[path.Clean(file.Path)] = file
	}
	for _, file := range files {
		for dir := path.Dir(path.Clean(file.Path)); dir != "/"; dir = path.Dir(dir) {
			if _, ok := known[dir]; !ok {
				known[dir] = File{Path: dir, Directory: true}
			}
		}
	}
	all := make([]File, 0, len(known))
	for _, file := range known {
		all = append(all, file)
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all
}

func (f File) write(archive *tar.Writer) error {
	header := &tar.Header{
		Name:    strings.TrimPrefix(path.Clean(f.Path), "/"),
		Mode:    f.Mode,
		ModTime: time.Unix(0, 0),
		Format:  tar.FormatPAX,
	}
	if header.Mode == 0 {
		header.Mode = 0o755
	}
	var content io.Reader
	switch {
	case f.Directory:
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	case f.Source != "":
		source, err := os.Open(f.Source)
		if err != nil {
			return err
		}
		defer source.Close()
		info, err := source.Stat()
		if err != nil {
			return err
		}
		header.Typeflag, header.Size, content = tar.TypeReg, info.Size(), source
	default:
		header.Typeflag, header.Size, content = tar.TypeReg, int64(len(f.Content)), bytes.NewReader(f.Content)
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if content == nil {
		return nil
	}
	_, err := io.Copy(archive, content)
	return err
}
