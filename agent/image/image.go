// Package image reads what the image says about itself: which Kubernetes it carries and
// which sandbox image it has preloaded. The image is fixed when it is baked, so a missing
// or broken description is an error of the image and not of the user.
package image

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Path is where the baking leaves the description.
const Path = "/etc/ovenbird/release.json"

// Release is what the image carries. Fields that the agent does not use are left out.
type Release struct {
	Kubernetes string `json:"kubernetes"` // "1.37.2"
	PauseImage string `json:"pauseImage"` // preloaded and pinned
}

// Read returns the description of the image under root.
func Read(root rootfs.Root) (Release, error) {
	data, err := os.ReadFile(root.Join(Path))
	if err != nil {
		return Release{}, fmt.Errorf("read the image's description: %w", err)
	}
	var release Release
	if err := json.Unmarshal(data, &release); err != nil {
		return Release{}, fmt.Errorf("read %s: %w", Path, err)
	}
	if _, err := release.Minor(); err != nil {
		return Release{}, fmt.Errorf("read %s: kubernetes: %w", Path, err)
	}
	if release.PauseImage == "" {
		return Release{}, fmt.Errorf("read %s: pauseImage is missing", Path)
	}
	return release, nil
}

// Minor returns 37 for Kubernetes 1.37.2.
func (r Release) Minor() (int, error) {
	parts := strings.Split(strings.TrimPrefix(r.Kubernetes, "v"), ".")
	if len(parts) >= 2 && parts[0] == "1" {
		if minor, err := strconv.Atoi(parts[1]); err == nil {
			return minor, nil
		}
	}
	return 0, fmt.Errorf("%q is not a version such as 1.37.2", r.Kubernetes)
}
