package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/containerd"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/kubelet"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// facts are what --metadata holds.
type facts struct {
	imds.Instance `json:",inline"`
	CPUs          int `json:"cpus"`
	MemoryMiB     int `json:"memoryMiB"` // MemTotal; without it nothing is capped by it
	// Tags are the instance's, as its metadata shows them.
	Tags map[string]string `json:"tags"`
	// Interface is the name of the primary network interface.
	Interface string `json:"interface"`
	// Accelerators are the kinds of the machine's: nvidia, neuron.
	Accelerators []string `json:"accelerators"`
}

// render writes the files of a node under root and returns their paths.
func render(root rootfs.Root, userDataPath, metadataPath string, kind identity.Kind, stdin io.Reader, notes io.Writer) ([]string, error) {
	data, err := readBounded(userDataPath, stdin)
	if err != nil {
		return nil, err
	}
	dropIns, err := boot.ReadDropIns(root)
	if err != nil {
		return nil, err
	}
	f := boot.Facts{Identity: kind}
	if f.UserData, f.Cluster, err = boot.ReadUserData(data, dropIns...); err != nil {
		if f.UserData.Spec.Cluster.Name != "" && !discover.SaysWhere(f.UserData.Spec.Cluster) {
			err = fmt.Errorf("%w (on an instance, the agent asks EKS; here nobody is called)", err)
		}
		return nil, fmt.Errorf("%s: %w", userDataPath, err)
	}
	known, err := readFacts(metadataPath, stdin, notes)
	if err != nil {
		return nil, err
	}
	f.Instance, f.CPUs, f.MemoryMiB = known.Instance, known.CPUs, known.MemoryMiB
	f.Tags, f.Interface = known.Tags, known.Interface
	accelerators, err := containerd.ParseAccelerators(known.Accelerators)
	if err != nil {
		return nil, fmt.Errorf("%s: accelerators: %w", metadataPath, err)
	}
	f.Accelerators = containerd.AcceleratorsOf(root, accelerators)
	for _, warning := range f.UserData.Warnings {
		fmt.Fprintf(notes, "%s: warning: %s\n", userDataPath, warning)
	}
	_, warnings := kubelet.ReadTags(f.Tags)
	for _, warning := range slices.Concat(warnings, f.Accelerators.Warnings()) {
		fmt.Fprintf(notes, "%s: warning: %s\n", metadataPath, warning)
	}
	f.Image, err = image.Read(root)
	if errors.Is(err, fs.ErrNotExist) {
		f.Image, err = exampleImage(), nil
		fmt.Fprintf(notes, "no %s: taking an image with Kubernetes %s\n", root.Join(image.Path), f.Image.Kubernetes)
	}
	if err != nil {
		return nil, err
	}
	files, err := f.Files()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", userDataPath, err)
	}
	if err := root.Apply(files.All()...); err != nil {
		return nil, err
	}
	var paths []string
	for _, file := range files.All() {
		if file.Data != nil {
			paths = append(paths, root.Join(file.Path))
		}
	}
	return paths, nil
}

func readFacts(path string, stdin io.Reader, notes io.Writer) (facts, error) {
	if path == "" {
		fmt.Fprintln(notes, "no --metadata: taking an example instance, a t3.medium")
		return facts{Instance: exampleInstance(), CPUs: 2, MemoryMiB: exampleMemoryMiB}, nil
	}
	data, err := readBounded(path, stdin)
	if err != nil {
		return facts{}, err
	}
	var f facts
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		said := strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: ")
		return facts{}, fmt.Errorf("%s: %s", path, said)
	}
	if err := f.Complete(); err != nil {
		return facts{}, fmt.Errorf("%s: %w", path, err)
	}
	if f.CPUs < 1 {
		return facts{}, fmt.Errorf("%s: cpus: want a number of processors, not %d", path, f.CPUs)
	}
	if f.MemoryMiB < 0 {
		return facts{}, fmt.Errorf("%s: memoryMiB: want the machine's memory, not %d", path, f.MemoryMiB)
	}
	return f, nil
}

// exampleMemoryMiB is about what the kernel leaves of a t3.medium's 4 GiB.
const exampleMemoryMiB = 3900

// exampleInstance, exampleCluster and exampleImage stand for what is not known away from an instance.
func exampleInstance() imds.Instance {
	return imds.Instance{
		ID: "i-0123456789abcdef0", Type: "t3.medium", Region: "us-west-2", AvailabilityZone: "us-west-2a",
		PrivateDNSName: "ip-10-0-0-10.us-west-2.compute.internal",
		PrivateIPv4:    netip.MustParseAddr("10.0.0.10"), IPv6: netip.MustParseAddr("2001:db8::10"),
	}
}

func exampleCluster() discover.Cluster {
	return discover.Cluster{Name: "example", Endpoint: "https://10.0.0.10", ServiceCIDR: netip.MustParsePrefix("172.20.0.0/16")}
}

func exampleImage() image.Release {
	return image.Release{Kubernetes: "1.37.2", PauseImage: "localhost/ovenbird/pause:1.37.2"}
}

// readBounded reads a file that a user names; "-" is stdin.
func readBounded(path string, stdin io.Reader) ([]byte, error) {
	const limit = 1 << 20
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		stdin = file
	}
	data, err := io.ReadAll(io.LimitReader(stdin, limit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes", path, limit)
	}
	return data, nil
}
