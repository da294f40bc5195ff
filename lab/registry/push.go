package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// Pusher pushes images to a registry that asks for no password.
type Pusher struct {
	Client *http.Client
	URL    string // https://registry.lab.internal
}

// Push pushes an image under a tag. Blobs that are there already are not sent.
func (p Pusher) Push(ctx context.Context, repository, tag string, image v1.Image) error {
	layers, err := image.Layers()
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		return fmt.Errorf("read the image's configuration: %w", err)
	}
	for _, layer := range append(layers, config) {
		if err := p.blob(ctx, repository, layer); err != nil {
			return err
		}
	}
	raw, err := image.RawManifest()
	if err != nil {
		return fmt.Errorf("read the image's manifest: %w", err)
	}
	kind, err := image.MediaType()
	if err != nil {
		return fmt.Errorf("read the image's manifest: %w", err)
	}
	target := fmt.Sprintf("%s/v2/%s/manifests/%s", p.URL, repository, tag)
	if err := p.send(ctx, http.MethodPut, target, string(kind), bytes.NewReader(raw), int64(len(raw))); err != nil {
		return fmt.Errorf("push the manifest of %s:%s: %w", repository, tag, err)
	}
	return nil
}

func (p Pusher) blob(ctx context.Context, repository string, layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil {
		return fmt.Errorf("read a layer: %w", err)
	}
	size, err := layer.Size()
	if err != nil {
		return fmt.Errorf("read layer %s: %w", digest, err)
	}
	if p.has(ctx, repository, digest) {
		return nil
	}
	data, err := layer.Compressed()
	if err != nil {
		return fmt.Errorf("read layer %s: %w", digest, err)
	}
	defer func() { _ = data.Close() }()
	target := fmt.Sprintf("%s/v2/%s/blobs/uploads/?digest=%s", p.URL, repository, url.QueryEscape(digest.String()))
	if err := p.send(ctx, http.MethodPost, target, "application/octet-stream", data, size); err != nil {
		return fmt.Errorf("push layer %s: %w", digest, err)
	}
	return nil
}

// has tells whether the registry has the blob. Whatever it says else, it gets the blob.
func (p Pusher) has(ctx context.Context, repository string, digest v1.Hash) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, fmt.Sprintf("%s/v2/%s/blobs/%s", p.URL, repository, digest), nil)
	if err != nil {
		return false
	}
	response, err := p.Client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (p Pusher) send(ctx context.Context, method, target, kind string, body io.Reader, size int64) error {
	request, err := http.NewRequestWithContext(ctx, method, target, io.NopCloser(body))
	if err != nil {
		return err
	}
	request.ContentLength = size
	request.Header.Set("Content-Type", kind)
	response, err := p.Client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusCreated {
		return reason(response)
	}
	return nil
}
