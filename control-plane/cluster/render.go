package cluster

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
)

// Rendering is a control plane laid out on disk with nothing running: what to start, in
// which order, and what to apply once it answers.
type Rendering struct {
	Endpoint               string
	Authority, Certificate string // files: to check the endpoint with, and to be an administrator with
	Components             []component.Component
	Manifests              []Manifest
}

// Manifest is an object to write by server-side apply.
type Manifest struct {
	Path string // below the endpoint
	Body []byte // JSON
}

// Render makes all files of c under the site's state directory, the very same as the
// reconciler would.
func (s Site) Render(c registry.Cluster, now time.Time) (Rendering, error) {
	description, err := s.describe(c, true)
	if err != nil {
		return Rendering{}, err
	}
	if _, err := s.ensureKeys(description, now); err != nil {
		return Rendering{}, err
	}
	r := Rendering{Endpoint: description.Endpoint(), Components: component.ControlPlane(description)}
	r.Authority, r.Certificate = description.Credentials()
	for _, c := range r.Components {
		if err := supervise.Prepare(c); err != nil {
			return Rendering{}, err
		}
	}
	objects, err := manifests(description)
	if err != nil {
		return Rendering{}, err
	}
	for _, object := range objects {
		body, err := json.Marshal(object)
		if err != nil {
			return Rendering{}, fmt.Errorf("encode %s: %w", object.GetName(), err)
		}
		r.Manifests = append(r.Manifests, Manifest{Path: apiPath(object), Body: body})
	}
	return r, nil
}
