package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// facts are what --metadata holds.
type facts struct {
	imds.Instance `json:",inline"`
	CPUs          int `json:"cpus"`
}

// render writes the files of a node under root and returns their paths.
func render(root rootfs.Root, userDataPath, metadataPath string, stdin io.Reader, notes io.Writer) ([]string, error) {
	data, err := readBounded(userDataPath, stdin)
	if err != nil {
		return nil, err
	}
	dropIns, err := boot.ReadDropIns(root)
	if err != nil {
		return nil, err
	}
	f := boot.Facts{}
	if f.UserData, f.Cluster, err = boot.ReadUserData(data, dropIns...); err != nil {
		return nil, fmt.Errorf("%s: %w", userDataPath, err)
	}
	for _, warning := range f.UserData.Warnings {
		fmt.Fprintf(notes, "%s: warning: %s\n", userDataPath, warning)
	}
	if f.Instance, f.CPUs, err = readFacts(metadataPath, stdin, notes); err != nil {
		return nil, err
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

func readFacts(path string, stdin io.Reader, notes io.Writer) (imds.Instance, int, error) {
	if path == "" {
		fmt.Fprintln(notes, "no --metadata: taking an example instance, a t3.medium")
		return exampleInstance(), 2, nil
	}
	data, err := readBounded(path, stdin)
	if err != nil {
		return imds.Instance{}, 0, err
	}
	var f facts
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		said := strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: json: ")
		return imds.Instance{}, 0, fmt.Errorf("%s: %s", path, said)
	}
	if err := f.Complete(); err != nil {
		return imds.Instance{}, 0, fmt.Errorf("%s: %w", path, err)
	}
	if f.CPUs < 1 {
		return imds.Instance{}, 0, fmt.Errorf("%s: cpus: want a number of processors, not %d", path, f.CPUs)
	}
	return f.Instance, f.CPUs, nil
}

// exampleInstance and exampleImage stand for what is not known away from an instance.
func exampleInstance() imds.Instance {
	return imds.Instance{
		ID: "i-0123456789abcdef0", Type: "t3.medium", Region: "us-west-2", AvailabilityZone: "us-west-2a",
		PrivateDNSName: "ip-10-0-0-10.us-west-2.compute.internal",
		PrivateIPv4:    netip.MustParseAddr("10.0.0.10"), IPv6: netip.MustParseAddr("2001:db8::10"),
	}
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
