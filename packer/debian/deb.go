package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// Deb is what a .deb says about itself.
type Deb struct {
	// Control is the control file, as it stands in a package list.
	Control string
	// Date is when the package was made: Debian's builds take it from the changelog.
	Date time.Time
}

const (
	magic     = "!<arch>\n"
	headSize  = 60      // of a member of an ar archive
	maxMember = 8 << 20 // of a .deb's control files
)

// ReadDeb reads the control file of a .deb.
func ReadDeb(name string) (Deb, error) {
	f, err := os.Open(name)
	if err != nil {
		return Deb{}, fmt.Errorf("read a .deb: %w", err)
	}
	defer f.Close()
	d, err := readDeb(f)
	if err != nil {
		return Deb{}, fmt.Errorf("read .deb %s: %w", name, err)
	}
	return d, nil
}

// readDeb reads the members in Debian's order (deb(5)): debian-binary, control.tar.
func readDeb(r io.Reader) (Deb, error) {
	var d Deb
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(r, start); err != nil || string(start) != magic {
		return d, errors.New("it is not an ar archive")
	}
	for {
		head := make([]byte, headSize)
		if _, err := io.ReadFull(r, head); err != nil {
			return d, errors.New("it has no control.tar")
		}
		field := func(from, to int) string { return strings.TrimRight(string(head[from:to]), " /") }
		seconds, err := strconv.ParseInt(field(16, 28), 10, 64)
		if err != nil {
			return d, fmt.Errorf("the date of %s: %w", field(0, 16), err)
		}
		size, err := strconv.ParseInt(field(48, 58), 10, 64)
		if err != nil || size < 0 {
			return d, fmt.Errorf("the size of %s is %q", field(0, 16), field(48, 58))
		}
		if name := field(0, 16); strings.HasPrefix(name, "control.tar") {
			d.Date = time.Unix(seconds, 0).UTC()
			d.Control, err = readControl(strings.TrimPrefix(name, "control.tar"), io.LimitReader(r, size))
			return d, err
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return d, err
		}
	}
}

func readControl(suffix string, r io.Reader) (string, error) {
	switch suffix {
	case "":
	case ".gz":
		unpacked, err := gzip.NewReader(r)
		if err != nil {
			return "", err
		}
		r = unpacked
	case ".xz":
		unpacked, err := xz.NewReader(r)
		if err != nil {
			return "", err
		}
		r = unpacked
	case ".zst":
		unpacked, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return "", err
		}
		defer unpacked.Close()
		r = unpacked
	default:
		return "", fmt.Errorf("control.tar%s is packed in a way that is not known", suffix)
	}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if err != nil {
			return "", fmt.Errorf("find the control file: %w", err)
		}
		if path.Clean(header.Name) != "control" {
			continue
		}
		var text bytes.Buffer
		if _, err := io.Copy(&text, io.LimitReader(archive, maxMember)); err != nil {
			return "", err
		}
		return strings.TrimSpace(text.String()) + "\n", nil
	}
}

// pkg is the package that the .deb is of.
func (d Deb) pkg() (lock.Package, error) {
	for stanza, err := range Stanzas(strings.NewReader(d.Control)) {
		if err != nil {
			return lock.Package{}, err
		}
		return stanza.pkg()
	}
	return lock.Package{}, errors.New("its control file is empty")
}
