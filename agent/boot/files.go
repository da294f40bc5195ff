package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/containerd"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/kubelet"
	"github.com/ovenbird-dev/ovenbird/agent/network"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/proxy"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

// Facts are all that a node's files depend on.
type Facts struct {
	Instance imds.Instance
	Image    image.Release
	CPUs     int
	// MemoryMiB is the MemTotal of /proc/meminfo, or 0 when nobody knows.
	MemoryMiB int
	UserData  nodeconfig.UserData
	Cluster   discover.Cluster
	Identity  identity.Kind
	Environ   []string // "NAME=value", the agent's own
	// Tags are those of the instance's tags that kubelet.IsNodeTag wants.
	Tags map[string]string
	// Interface is the name of the primary network interface, "" when nobody knows.
	Interface string
	// Accelerators are the machine's, with what the image has for them.
	Accelerators containerd.Accelerators
}

// dropInDir holds NodeConfigs that come before user-data.
const dropInDir = "/etc/ovenbird/nodeconfig.d"

// ReadDropIns returns the image's own NodeConfigs, *.yaml of dropInDir, in lexical order.
func ReadDropIns(root rootfs.Root) ([]nodeconfig.DropIn, error) {
	entries, err := os.ReadDir(root.Join(dropInDir)) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read drop-ins: %w", err)
	}
	var dropIns []nodeconfig.DropIn
	for _, entry := range entries {
		if entry.IsDir() || !strings.HasSuffix(entry.Name(), ".yaml") {
			continue
		}
		path := dropInDir + "/" + entry.Name()
		data, err := os.ReadFile(root.Join(path))
		if err != nil {
			return nil, fmt.Errorf("read drop-ins: %w", err)
		}
		dropIns = append(dropIns, nodeconfig.DropIn{Path: path, Data: data})
	}
	return dropIns, nil
}

// ReadUserData reads user-data over the image's drop-ins that says where its cluster is, or
// that the instance hosts control planes.
func ReadUserData(data []byte, dropIns ...nodeconfig.DropIn) (nodeconfig.UserData, discover.Cluster, error) {
	userData, err := nodeconfig.Parse(data, dropIns...)
	if err != nil {
		return nodeconfig.UserData{}, discover.Cluster{}, err
	}
	if userData.Host != nil {
		return userData, discover.Cluster{}, nil
	}
	cluster, err := discover.FromNodeConfig(userData.Spec.Cluster)
	var problems nodeconfig.Problems
	if errors.As(err, &problems) {
		err = userData.Locate(problems)
	}
	return userData, cluster, err
}

// Files are an instance's files by who reads them. The kubeconfig is kubelet's too, but says
// whose the certificate on disk is, so it is written with that. Host is all that an instance
// has instead of the last four that hosts control planes.
type Files struct{ Environment, Resolver, Network, Containerd, Kubelet, Kubeconfig, Host []rootfs.File }

// All returns all of them.
func (f Files) All() []rootfs.File {
	return slices.Concat(f.Environment, f.Network, f.Resolver, f.Containerd, f.Kubelet, f.Kubeconfig, f.Host)
}

// trustedPath is where every Go program looks for authorities besides the bundle of the
// system (crypto/x509, root_unix.go): containerd pulls from private registries.
const trustedPath = "/etc/ssl/certs/ovenbird-user-data.pem"

// NodeName returns what the node is called: what EC2 calls the instance, or its ID if the
// NodeConfig has that feature on.
func (f Facts) NodeName() string {
	if f.UserData.Spec.FeatureGates[nodeconfig.InstanceIDNodeName] {
		return f.Instance.ID
	}
	return f.Instance.PrivateDNSName
}

// nodeIP returns the node's address, of the family of the cluster's services.
func (f Facts) nodeIP() (netip.Addr, error) {
	if !f.Cluster.ServiceCIDR.Addr().Is6() {
		return f.Instance.PrivateIPv4, nil
	}
	if !f.Instance.IPv6.IsValid() {
		return netip.Addr{}, fmt.Errorf("spec.cluster.cidr is %s, but the instance has no IPv6 address", f.Cluster.ServiceCIDR)
	}
	return f.Instance.IPv6, nil
}

// kind is by what this node proves who it is.
func (f Facts) kind() identity.Kind { return f.Identity.For(f.Cluster) }

func (f Facts) environment() environment {
	return newEnvironment(f.Environ, f.configured())
}

// configured is the environment of the NodeConfig with what must be reached without a proxy.
func (f Facts) configured() nodeconfig.Environment {
	return proxy.Complete(f.UserData.Spec.Instance.Environment, proxy.Direct(f.Cluster.ServiceCIDR, f.Instance.PrivateDNSName))
}

// Warnings are of what has no effect on the node, in user-data and in tags, and of devices
// that pods cannot use.
func (f Facts) Warnings() []string {
	_, warnings := kubelet.ReadTags(f.Tags)
	return slices.Concat(f.UserData.Warnings, warnings, f.Accelerators.Warnings())
}

// stsEndpoint returns where the verifier of the node's tokens asks. Amazon EKS takes none
// for another STS than the region's own, whatever the environment says about calls.
func (f Facts) stsEndpoint() string {
	if f.Cluster.IsAmazonEKS() {
		return environment{}.stsEndpoint(f.Instance.Region)
	}
	return f.environment().stsEndpoint(f.Instance.Region)
}

// kubeconfig is kubelet's.
func (f Facts) kubeconfig() rootfs.File {
	if f.kind() == identity.Token {
		return identity.TokenKubeconfig(f.Cluster, f.Instance.Region, f.stsEndpoint())
	}
	return identity.Kubeconfig(f.Cluster)
}

// bootstrapKubeconfig is kubelet's for the time when its certificate has ended; one that
// shows tokens has none.
func (f Facts) bootstrapKubeconfig() rootfs.File {
	if f.kind() == identity.Token {
		return rootfs.File{Path: identity.BootstrapPath}
	}
	return identity.BootstrapKubeconfig(f.Cluster, f.Instance.Region, f.stsEndpoint())
}

// machineFiles are those that an instance has whatever it does.
func (f Facts) machineFiles() Files {
	return Files{
		Environment: append(systemd.EnvironmentFiles(f.configured()),
			rootfs.File{Path: trustedPath, Data: f.UserData.TrustedCAs}),
		Resolver: []rootfs.File{systemd.ResolverFile(f.UserData.Spec.Instance.Network)},
	}
}

// Files returns the files of an instance with these facts. The keys, the certificate and the
// pod network of a node come later, from the cluster.
func (f Facts) Files() (Files, error) {
	if f.UserData.Host != nil {
		return f.hostFiles()
	}
	minor, err := f.Image.Minor()
	if err != nil {
		return Files{}, err
	}
	nodeIP, err := f.nodeIP()
	if err != nil {
		return Files{}, err
	}
	spec := f.UserData.Spec
	fromTags, _ := kubelet.ReadTags(f.Tags)
	files := f.machineFiles()
	files.Network = []rootfs.File{network.SecondaryFile(f.Interface)}
	files.Kubeconfig = []rootfs.File{f.bootstrapKubeconfig(), f.kubeconfig()}
	files.Containerd, err = containerd.Files(containerd.Input{
		PauseImage:  f.Image.PauseImage,
		UserConfig:  spec.Containerd.Config,
		RuntimeSpec: spec.Containerd.BaseRuntimeSpec,

		Accelerators: f.Accelerators,
	})
	if err != nil {
		return Files{}, err
	}
	files.Kubelet, err = kubelet.Files(kubelet.Input{
		Minor:        minor,
		NodeName:     f.NodeName(),
		NodeIP:       nodeIP,
		ProviderID:   f.Instance.ProviderID(),
		InstanceType: f.Instance.Type,
		Region:       f.Instance.Region,
		Zone:         f.Instance.AvailabilityZone,
		CPUs:         f.CPUs,
		MemoryMiB:    f.MemoryMiB,
		ClusterCA:    f.Cluster.CA,
		ClusterDNS:   f.Cluster.DNS(),
		UserConfig:   spec.Kubelet.Config,
		UserFlags:    spec.Kubelet.Flags,

		MaxPodsExpression: spec.Kubelet.MaxPodsExpression,
		Tokens:            f.kind() == identity.Token,
		CloudController:   f.Cluster.IsAmazonEKS(),
		FromTags:          fromTags,
	})
	return files, err
}
