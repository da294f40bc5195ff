package containerimage

import (
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer is a layer that is not compressed, as go-containerregistry's own always are: it
// goes nowhere but into a node's content store, where it is unpacked at once.
type layer struct {
	write  func(io.Writer) error // the tar, the same at each call
	digest v1.Hash
	size   int64
}

var _ v1.Layer = (*layer)(nil)

func newLayer(write func(io.Writer) error) (*layer, error) {
	l := &layer{write: write}
	content, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	l.digest, l.size, err = v1.SHA256(content)
	return l, err
}

// Digest is the hash of the tar.
func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is the hash of the tar.
func (l *layer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Compressed reads the tar.
func (l *layer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed reads the tar.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.write(w)) }()
	return r, nil
}

// Size is the tar's, in bytes.
func (l *layer) Size() (int64, error) { return l.size, nil }

// MediaType says that nothing is compressed.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
