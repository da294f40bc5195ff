package autoscaling

import (
	"context"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

// Launcher launches instances from launch templates. Its errors are Amazon EC2's, which the
// group's activities repeat.
type Launcher interface {
	// Resolve finds a launch template by its ID or name and a version: a number, $Latest,
	// $Default, or empty for the default.
	Resolve(idOrName, version string) (LaunchTemplate, error)
	// Launch starts one instance. The same Token gives the same instance again.
	Launch(ctx context.Context, l Launch) (fleet.Instance, error)
}

// LaunchTemplate is one version of a launch template.
type LaunchTemplate struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	Version      int    `json:"version"`
	InstanceType string `json:"instanceType,omitempty"` // none where the template leaves it open
}

// Launch is an instance as a group wants it.
type Launch struct {
	Template LaunchTemplate    `json:"template"`
	Type     string            `json:"type"` // the instance type
	SubnetID string            `json:"subnetID"`
	Tags     map[string]string `json:"tags,omitempty"` // besides the template's own, before which they come
	Spot     bool              `json:"spot,omitempty"` // whatever market the template names
	Token    string            `json:"token"`
}
