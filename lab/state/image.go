package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Image is a disk registered as an AMI. Its bytes are told from others by path, size and
// modification time.
type Image struct {
	ID           string    `json:"id"`
	Source       string    `json:"source"` // where it was baked
	Size         int64     `json:"size"`   // bytes
	ModTime      time.Time `json:"modTime"`
	RegisteredAt time.Time `json:"registeredAt"`
}

// Image finds a registered image.
func (l Lab) Image(id string) (Image, bool) {
	for _, i := range l.Images {
		if i.ID == id {
			return i, true
		}
	}
	return Image{}, false
}

// Newest is the image that was registered last.
func (l Lab) Newest() (Image, bool) {
	if len(l.Images) == 0 {
		return Image{}, false
	}
	return l.Images[len(l.Images)-1], true
}

// InspectImage looks at a disk that is to become an image. It writes nothing.
func InspectImage(path string, now time.Time) (Image, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Image{}, fmt.Errorf("find the image: %w", err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Image{}, fmt.Errorf("no image at %s: bake one, or leave --image out", path)
	case err != nil:
		return Image{}, fmt.Errorf("look at the image: %w", err)
	case !info.Mode().IsRegular() || info.Size() == 0 || info.Size()%512 != 0:
		return Image{}, fmt.Errorf("%s is not a raw disk image: want a file of whole 512-byte sectors", path)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", path, info.Size(), info.ModTime().UnixNano()))
	return Image{
		ID: "ami-0" + hex.EncodeToString(sum[:8]), Source: path, Size: info.Size(),
		ModTime: info.ModTime(), RegisteredAt: now.UTC(),
	}, nil
}

// Register makes the image one of the lab's, the newest, and saves the lab. The disk is
// linked, so that an image baked later in its place leaves running instances theirs.
func (d Dir) Register(lab Lab, image Image) (Lab, error) {
	if newest, ok := lab.Newest(); ok && newest.ID == image.ID && d.Intact(newest) {
		return lab, nil
	}
	link := d.Image(image.ID)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return lab, fmt.Errorf("register the image: %w", err)
	}
	// Another file system has no hard link to it; then its maker must not write into it.
	if os.Link(image.Source, link) != nil {
		if err := os.Symlink(image.Source, link); err != nil {
			return lab, fmt.Errorf("register the image: %w", err)
		}
	}
	images := []Image{}
	for _, i := range lab.Images {
		if i.ID != image.ID {
			images = append(images, i)
		}
	}
	images = append(images, image)
	lab.Images = images
	return lab, d.Save(lab)
}

// Intact tells whether the image's disk is still the one that was registered.
func (d Dir) Intact(image Image) bool {
	info, err := os.Stat(d.Image(image.ID))
	return err == nil && info.Size() == image.Size && info.ModTime().Equal(image.ModTime)
}
