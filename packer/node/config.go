package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/ovenbird-dev/ovenbird/packer/node/containerimage"
)

//go:generate go run -modfile=../packer-sdc.mod github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc mapstructure-to-hcl2 -type Config

// Config is what a template says in a provisioner block of type ovenbird-node.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// The version of Kubernetes that the node runs, such as 1.37.2.
	KubernetesVersion string `mapstructure:"kubernetes_version" required:"true"`
	// The directory of upstream programs, as <name>/<version>/<program>. Of each other
	// component the newest version there is installed.
	ComponentsDir string `mapstructure:"components_dir" required:"true"`
	// The ovenbird-agent program, built for linux/amd64.
	AgentPath string `mapstructure:"agent_path" required:"true"`

	// The ovenbird program, built for linux/amd64. With it an instance of the image can host
	// control planes too, if its user-data says so: besides the program, etcd and every
	// Kubernetes version of components_dir that has kube-apiserver, kube-controller-manager
	// and kube-scheduler are installed. Their clusters are of those versions.
	OvenbirdPath string `mapstructure:"ovenbird_path"`

	// Archives of container images that the node comes with, unpacked and kept from
	// kubelet's garbage collection: OCI layouts in a tar (as from `skopeo copy` or
	// `docker buildx build --output type=oci`) and what `docker save` writes, not
	// compressed. Of an image for several platforms linux/amd64 is taken.
	ContainerImages []string `mapstructure:"container_images"`

	release  release
	control  controlPlane
	archived []containerimage.Archived
	ctx      interpolate.Context
}

var kubernetesVersion = regexp.MustCompile(`^[1-9][0-9]*\.[0-9]+\.[0-9]+$`)

// prepare decodes what the template says and checks every field.
func (c *Config) prepare(raws ...any) error {
	err := config.Decode(c, &config.DecodeOpts{
		PluginType:         "ovenbird-node",
		Interpolate:        true,
		InterpolateContext: &c.ctx,
	}, raws...)
	if err != nil {
		return err
	}
	return errors.Join(c.prepareComponents(), c.prepareAgent(), c.prepareOvenbird(), c.prepareImages())
}

// unknown is what Packer hands over for a value of a data source that it has not asked,
// as `packer validate` does.
const unknown = "<unknown>"

func (c *Config) prepareComponents() error {
	if c.KubernetesVersion == "" {
		return errors.New("kubernetes_version: must be set, for example to 1.37.2")
	}
	if c.KubernetesVersion == unknown {
		return nil
	}
	if !kubernetesVersion.MatchString(c.KubernetesVersion) {
		return fmt.Errorf("kubernetes_version: %q is not a full version such as 1.37.2", c.KubernetesVersion)
	}
	if c.ComponentsDir == "" {
		return errors.New("components_dir: must be set to the directory of upstream programs")
	}
	dir, err := filepath.Abs(c.ComponentsDir)
	if err != nil {
		return fmt.Errorf("components_dir: %w", err)
	}
	c.release, err = findRelease(dir, c.KubernetesVersion)
	return err
}

func (c *Config) prepareAgent() error {
	if c.AgentPath == "" {
		return errors.New("agent_path: must be set to the ovenbird-agent program")
	}
	path, err := filepath.Abs(c.AgentPath)
	if err != nil {
		return fmt.Errorf("agent_path: %w", err)
	}
	c.AgentPath = path
	return program("agent_path", path)
}

func (c *Config) prepareOvenbird() error {
	if c.OvenbirdPath == "" {
		return nil
	}
	path, err := filepath.Abs(c.OvenbirdPath)
	if err != nil {
		return fmt.Errorf("ovenbird_path: %w", err)
	}
	c.OvenbirdPath = path
	if err := program("ovenbird_path", path); err != nil || c.release.dir == "" { // whose own error is told
		return err
	}
	c.control, err = findControlPlane(c.release.dir)
	return err
}

func (c *Config) prepareImages() error {
	for _, file := range c.ContainerImages {
		images, err := containerimage.ReadArchive(file)
		if err != nil {
			return fmt.Errorf("container_images: %w", err)
		}
		for _, image := range images {
			if slices.ContainsFunc(image.Names, func(name string) bool { return strings.HasPrefix(name, imagePrefix) }) {
				return fmt.Errorf("container_images: %s holds %s: names that begin with %s are the node's own", file, strings.Join(image.Names, ", "), imagePrefix)
			}
		}
		c.archived = append(c.archived, images...)
	}
	return nil
}

// program checks that path is a file that can be run.
func program(field, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: there is no %s", field, path)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s: %s is not a program", field, path)
	}
	return nil
}
