package release

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/hcl2helper"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/zclconf/go-cty/cty"
)

//go:generate go run -modfile=../packer-sdc.mod github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc mapstructure-to-hcl2 -type Config,DatasourceOutput

// Config is what a template says in a data block of type ovenbird-release.
type Config struct {
	// A full version of Kubernetes, such as `1.37.2`.
	KubernetesVersion string `mapstructure:"kubernetes_version"`
	// A channel, instead of a version: a minor such as `1.37` for its newest patch, or
	// `stable` for the newest of all. `stable` when neither is set.
	Channel string `mapstructure:"channel"`
	// The directory of built components, as the provisioner's field of that name. When it
	// is set, `programs` holds the SHA-256 of every program there of this release.
	ComponentsDir string `mapstructure:"components_dir"`
}

// DatasourceOutput is what the rest of the template may use.
type DatasourceOutput struct {
	// The full version of Kubernetes, such as `1.37.2`.
	KubernetesVersion string `mapstructure:"kubernetes_version"`
	// Its minor, such as `1.37`, which is also its channel.
	KubernetesMinor string `mapstructure:"kubernetes_minor"`
	// The version of each component: `kubernetes`, `containerd`, `runc`, `cni-plugins`,
	// `coredns`.
	Components map[string]string `mapstructure:"components"`
	// The hash of each component's source as in go.sum (`h1:...`), by its name.
	Hashes map[string]string `mapstructure:"hashes"`
	// The SHA-256, in hex, of each built program, by component and name, such as
	// `kubernetes/kubelet`. Empty without `components_dir`.
	Programs map[string]string `mapstructure:"programs"`
}

// Datasource looks a release up. It is a packer.Datasource.
type Datasource struct {
	config  Config
	release Release
}

// ConfigSpec describes the template's fields to Packer.
func (d *Datasource) ConfigSpec() hcldec.ObjectSpec { return d.config.FlatMapstructure().HCL2Spec() }

// OutputSpec describes the answer to Packer.
func (d *Datasource) OutputSpec() hcldec.ObjectSpec {
	return (&DatasourceOutput{}).FlatMapstructure().HCL2Spec()
}

// Configure checks the template.
func (d *Datasource) Configure(raws ...any) error {
	if err := config.Decode(&d.config, nil, raws...); err != nil {
		return err
	}
	releases, err := Releases()
	if err != nil {
		return err
	}
	d.release, err = find(releases, d.config.KubernetesVersion, d.config.Channel)
	return err
}

// Execute returns the release.
func (d *Datasource) Execute() (cty.Value, error) {
	out := DatasourceOutput{
		KubernetesVersion: d.release.Kubernetes.Version,
		KubernetesMinor:   d.release.Minor(),
		Components:        map[string]string{},
		Hashes:            map[string]string{},
		Programs:          map[string]string{},
	}
	for _, c := range d.release.Components {
		out.Components[c.Name], out.Hashes[c.Name] = c.Version, c.Hash
		if d.config.ComponentsDir == "" {
			continue
		}
		if err := hashPrograms(out.Programs, d.config.ComponentsDir, c); err != nil {
			return cty.NilVal, fmt.Errorf("components_dir: %w", err)
		}
	}
	return hcl2helper.HCL2ValueFromConfig(out, d.OutputSpec()), nil
}

// hashPrograms adds the digest of each built program of c.
func hashPrograms(into map[string]string, dir string, c Component) error {
	dir = filepath.Join(dir, c.Name, c.Version)
	programs, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s %s is not there: there is no directory %s; make components builds the newest, scripts/components --all what is older", c.Name, c.Version, dir)
	}
	if err != nil {
		return err
	}
	for _, program := range programs {
		if !program.Type().IsRegular() {
			continue
		}
		digest, err := hashFile(filepath.Join(dir, program.Name()))
		if err != nil {
			return err
		}
		into[c.Name+"/"+program.Name()] = digest
	}
	return nil
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
