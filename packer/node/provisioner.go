// Package node is the Packer provisioner ovenbird-node. It turns the Debian machine that
// a builder runs into a Kubernetes node: agent, kubelet, containerd, runc, CNI plugins,
// their units and kernel settings, and container images that are unpacked already; on demand,
// what hosts control planes comes with it. It reaches the machine through Packer's
// communicator only, so it serves builders that work in a directory and those that work over
// SSH alike.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/node/containerimage"
	"github.com/ovenbird-dev/ovenbird/packer/progress"
)

// debianPackages are what a node needs of Debian beyond a machine that boots.
var debianPackages = []string{
	"busybox-static", "ca-certificates", "conntrack", "dbus", "ethtool", "iproute2",
	"e2fsprogs", "iptables", "kmod", "mdadm", "mount", "nftables", "systemd-resolved", "util-linux",
}

// DebianPackages are what ovenbird-node installs where they are missing.
func DebianPackages() []string { return slices.Clone(debianPackages) }

// Provisioner makes a node as its template says. It is a packer.Provisioner.
type Provisioner struct{ config Config }

// ConfigSpec describes the template's fields to Packer.
func (p *Provisioner) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Prepare checks the template.
func (p *Provisioner) Prepare(raws ...any) error { return p.config.prepare(raws...) }

// Provision makes the machine a node.
func (p *Provisioner) Provision(ctx context.Context, ui packersdk.Ui, comm packersdk.Communicator, _ map[string]any) (err error) {
	machine := remote{comm: comm, stage: "/tmp/ovenbird-node-" + uuid.NewString()}
	if _, err := machine.run(ctx, "mkdir", "mkdir -m 700 "+quote(machine.stage)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.clean(ctx)) }()
	if err := p.prepareMachine(ctx, ui, &machine); err != nil {
		return err
	}
	if err := p.install(ctx, ui, machine); err != nil {
		return err
	}
	return p.importImages(ctx, ui, machine)
}

// prepareMachine finds out what the machine is and installs the packages it lacks.
func (p *Provisioner) prepareMachine(ctx context.Context, ui packersdk.Ui, machine *remote) error {
	if _, err := machine.script(ctx, "facts.sh", machine.stage, strings.Join(debianPackages, " ")); err != nil {
		return err
	}
	raw, err := machine.download("facts")
	if err != nil {
		return err
	}
	facts, err := parseFacts(string(raw))
	if err != nil {
		return err
	}
	if !facts.root {
		if _, err := machine.run(ctx, "sudo", "sudo -n true"); err != nil {
			return fmt.Errorf("%w; let the user that logs in use sudo without a password, or log in as root", err)
		}
		machine.root = "sudo -n "
	}
	if len(facts.missing) == 0 {
		return nil
	}
	return progress.Step(ui, "Installing Debian packages: "+strings.Join(facts.missing, " "), func() error {
		_, err := machine.script(ctx, "packages.sh", facts.missing...)
		return err
	})
}

// install puts the node's files in place.
func (p *Provisioner) install(ctx context.Context, ui packersdk.Ui, machine remote) error {
	r := p.config.release
	what := fmt.Sprintf("Installing Kubernetes %s, containerd %s, runc %s and the agent", r.Kubernetes, r.Containerd, r.Runc)
	if control := p.config.control; len(control.kubernetes) > 0 {
		what += fmt.Sprintf(", and ovenbird with etcd %s and control planes of Kubernetes %s", control.etcd, strings.Join(control.kubernetes, ", "))
	}
	return progress.Step(ui, what, func() error {
		entries, err := p.config.nodeEntries()
		if err != nil {
			return err
		}
		err = machine.stream(machine.stage+"/payload.tar", func(w io.Writer) error { return writePayload(w, entries) })
		if err != nil {
			return err
		}
		said, err := machine.script(ctx, "install.sh", machine.stage)
		if err != nil {
			return err
		}
		if want := "Kubernetes v" + r.Kubernetes; !strings.Contains(said, want) {
			return fmt.Errorf("install Kubernetes: kubelet of components_dir calls itself %q, want %q", strings.TrimSpace(said), want)
		}
		return nil
	})
}

// importImages makes the container images and unpacks them into containerd's store.
func (p *Provisioner) importImages(ctx context.Context, ui packersdk.Ui, machine remote) error {
	what := "Importing container images (pause, kube-proxy, CoreDNS, busybox"
	for _, image := range p.config.archived {
		what += ", " + image.Names[0]
	}
	return progress.Step(ui, what+")", func() error {
		if _, err := machine.script(ctx, "parts.sh", machine.stage); err != nil {
			return err
		}
		parts, err := machine.fetchParts()
		if err != nil {
			return err
		}
		images := images(p.config.release, parts)
		err = machine.stream(machine.stage+"/images.tar", func(w io.Writer) error {
			return containerimage.Write(w, images, p.config.archived)
		})
		if err != nil {
			return err
		}
		imported, err := machine.script(ctx, "import.sh", machine.stage)
		if err != nil {
			return err
		}
		var names []string
		for _, image := range images {
			names = append(names, image.Names...)
		}
		for _, image := range p.config.archived {
			names = append(names, image.Names...)
		}
		for _, name := range names {
			if !slices.Contains(strings.Fields(imported), name) {
				return fmt.Errorf("import container images: containerd did not take %s", name)
			}
		}
		return nil
	})
}

// facts are what a machine must be like.
type facts struct {
	root    bool
	missing []string // Debian packages
}

// parseFacts reads the output of scripts/facts.sh and refuses a machine that cannot
// become a node.
func parseFacts(raw string) (facts, error) {
	lines := strings.Split(strings.TrimSpace(raw), "\n")
	if len(lines) < 3 {
		return facts{}, fmt.Errorf("find out what the machine is: it answered %q", raw)
	}
	if lines[1] != "x86_64" {
		return facts{}, fmt.Errorf("the machine is %s: ovenbird-node makes nodes of x86_64 machines only", lines[1])
	}
	if lines[2] != "debian 13" {
		return facts{}, fmt.Errorf("the machine runs %s: ovenbird-node makes nodes of Debian 13 only", lines[2])
	}
	return facts{root: lines[0] == "0", missing: lines[3:]}, nil
}
