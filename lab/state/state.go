// Package state is what a lab keeps on disk: where each thing lies in the lab's state
// directory, the few facts that `up` decided, and the locks that keep one `up` and one
// daemon at work. Files are written whole, so that any process may be killed at any time.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// ErrNoLab is what Load answers where no `up` has been.
var ErrNoLab = errors.New("no lab here")

// Lab is what `up` decided and every other command reads.
type Lab struct {
	Name        string      `json:"name"` // the lab's and its network namespace's
	ProxyPort   int         `json:"proxyPort,omitempty"`
	Accelerator Accelerator `json:"accelerator"`
	// SnapshotRate is how fast volumes fetch from their snapshot, in MiB/s; 0: they need not.
	SnapshotRate int     `json:"snapshotRate,omitempty"`
	Images       []Image `json:"images,omitempty"` // the newest last
	// FakeInstances are played in memory: nothing runs in them.
	FakeInstances bool      `json:"fakeInstances,omitempty"`
	CreatedAt     time.Time `json:"createdAt"`
}

// Accelerator is how this machine runs instances, and why so.
type Accelerator struct {
	Name   string `json:"name"` // "kvm" or "tcg"
	Reason string `json:"reason"`
}

// Dir is a lab's state directory, an absolute path.
type Dir string

// Open makes path absolute. It makes nothing on disk.
func Open(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the lab's state directory %q: %w", path, err)
	}
	return Dir(abs), nil
}

func (d Dir) join(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

// The files of a lab. Directories that hold secrets are made 0700, secret files 0600.
func (d Dir) labFile() string    { return d.join("lab.json") }
func (d Dir) daemonLock() string { return d.join("daemon.lock") }

// CA is the certificate that the lab's endpoints are signed by.
func (d Dir) CA() string { return d.join("ca.crt") }

// TLS is the directory of the endpoints' certificates and keys.
func (d Dir) TLS() string { return d.join("tls") }

// Credentials is the administrator's access key.
func (d Dir) Credentials() string { return d.join("credentials.json") }

// Policy allows the administrator everything at the EKS API.
func (d Dir) Policy() string { return d.join("policy.json") }

// Secret is what instance credentials and metadata tokens are derived from.
func (d Dir) Secret() string { return d.join("secret.key") }

// Fleet is the record of the instances.
func (d Dir) Fleet() string { return d.join("fleet.json") }

// Networks is the record of the VPCs.
func (d Dir) Networks() string { return d.join("networks.json") }

// Scaling is the record of the groups of Auto Scaling.
func (d Dir) Scaling() string { return d.join("autoscaling.json") }

// Stacks is the record of CloudFormation's stacks.
func (d Dir) Stacks() string { return d.join("cloudformation.json") }

// Inventory is the record of EC2's launch templates, security groups and the like.
func (d Dir) Inventory() string { return d.join("ec2.json") }

// Volume is the disk of a volume that was made by itself.
func (d Dir) Volume(id string) string { return d.join("volumes", id+".raw") }

// Roles is the record of IAM's roles, instance profiles and policies.
func (d Dir) Roles() string { return d.join("iam.json") }

// Recorded is the record of stacks' resources that have nothing behind them.
func (d Dir) Recorded() string { return d.join("recorded.json") }

// Buckets is the directory of S3's buckets.
func (d Dir) Buckets() string { return d.join("buckets") }

// Control is the socket that commands reach the daemon through.
func (d Dir) Control() string { return d.join("control.sock") }

// Parameters is the record of SSM's parameters.
func (d Dir) Parameters() string { return d.join("parameters.json") }

// Logs is the directory of CloudWatch's log groups.
func (d Dir) Logs() string { return d.join("logs") }

// Registry is the directory of the container registry.
func (d Dir) Registry() string { return d.join("registry") }

// Instances is the directory that holds one directory an instance.
func (d Dir) Instances() string { return d.join("instances") }

// Instance is an instance's own directory.
func (d Dir) Instance(id string) string { return d.join("instances", id) }

// Console is what an instance printed on its serial port.
func (d Dir) Console(id string) string { return d.join("instances", id, "console.log") }

// Image is a registered image's disk.
func (d Dir) Image(id string) string { return d.join("images", id+".raw") }

// Names is the directory of what dnsmasq is told.
func (d Dir) Names() string { return d.join("names") }

// Log is where a child's output goes.
func (d Dir) Log(name string) string { return d.join("log", name+".log") }

// Resolv is the resolv.conf for commands inside the lab.
func (d Dir) Resolv() string { return d.join("resolv.conf") }

// Make makes the state directory and its parts.
func (d Dir) Make() error {
	for path, mode := range map[string]fs.FileMode{
		"": 0o755, "log": 0o755, "images": 0o755, "names": 0o755, "tls": 0o700, "instances": 0o755,
	} {
		if err := os.MkdirAll(d.join(path), mode); err != nil {
			return fmt.Errorf("make the lab's state directory: %w", err)
		}
	}
	return nil
}

// Remove removes the state directory, the lab's record last: until then it is still known
// for what it is.
func (d Dir) Remove() error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := d.join(e.Name()); path != d.labFile() {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(string(d))
}

// Load reads the lab; ErrNoLab when there is none.
func (d Dir) Load() (Lab, error) {
	data, err := os.ReadFile(d.labFile())
	if errors.Is(err, fs.ErrNotExist) {
		return Lab{}, fmt.Errorf("%w: %s has none; start one with `ovenbird-lab up`, or name another with --state-dir", ErrNoLab, d)
	}
	if err != nil {
		return Lab{}, fmt.Errorf("read the lab: %w", err)
	}
	var lab Lab
	if err := json.Unmarshal(data, &lab); err != nil {
		return Lab{}, fmt.Errorf("read the lab from %s: %w", d.labFile(), err)
	}
	return lab, nil
}

// Save replaces the lab's record.
func (d Dir) Save(lab Lab) error {
	return WriteJSON(d.labFile(), lab, 0o644)
}

// WriteJSON replaces path with value, whole.
func WriteJSON(path string, value any, mode fs.FileMode) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
