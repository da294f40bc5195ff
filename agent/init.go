package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func initCommand() *cobra.Command {
	var root, userData, metadata string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make this instance a Ready node",
		Long: `init makes this instance a Ready node and returns when it is one. With --root it only
writes, under a directory, the files that a node would get: it starts nothing, calls nobody
and needs no EC2.`,
		Example: `  ovenbird-agent init
  ovenbird-agent init --root /tmp/node --user-data nodeconfig.yaml
  ovenbird-agent init --root /tmp/node --user-data nodeconfig.yaml --metadata instance.json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&root, "root", "", "write the node's files under this directory and start nothing")
	cmd.Flags().StringVar(&userData, "user-data", "", "with --root: the user-data to read")
	cmd.Flags().StringVar(&metadata, "metadata", "", "with --root: facts about the instance in JSON or YAML (default: those of an example)")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case root == "" && (userData != "" || metadata != ""):
			return cli.Usage(errors.New("--user-data and --metadata go with --root: without it they come from instance metadata"))
		case root == "":
			return join(cmd)
		case userData == "":
			return cli.Usage(errors.New("--root needs --user-data FILE"))
		}
		files, err := render(rootfs.Root(root), userData, metadata, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), files, func(w io.Writer) error {
			for _, path := range files {
				fmt.Fprintln(w, path)
			}
			return nil
		})
	}
	return cmd
}

func join(cmd *cobra.Command) error {
	if os.Geteuid() != 0 {
		return errors.New("init changes this machine, so it must run as root (--root DIR only writes the files under DIR)")
	}
	logger, err := cli.Logger()
	if err != nil {
		return err
	}
	return boot.Join(cmd.Context(), boot.Options{
		Root:     "/",
		Metadata: imds.New(""),
		Units:    systemd.Bus{},
		Clock:    boot.SystemClock{},
		Random:   rand.Float64, //nolint:gosec // jitter is no secret
		CPUs:     runtime.NumCPU(),
		Environ:  os.Environ(),
		Release:  cli.BuildVersion().Release,
		Log:      logger,
		Console:  openConsole(),
		Notify:   systemd.Notify,
	})
}

// console is the machine's console. Nobody may be reading it: a write that does not get
// through in a second is dropped.
type console struct{ *os.File }

func openConsole() io.Writer {
	file, err := os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return io.Discard
	}
	return console{file}
}

func (c console) Write(p []byte) (int, error) {
	// A console that has no deadlines does not block either: it was opened not to.
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	return c.File.Write(p)
}

// facts are what --metadata holds.
type facts struct {
	imds.Instance `json:",inline"`
	CPUs          int `json:"cpus"`
}

// render writes the files of a node under root and returns their paths.
func render(root rootfs.Root, userDataPath, metadataPath string, notes io.Writer) ([]string, error) {
	data, err := readBounded(userDataPath)
	if err != nil {
		return nil, err
	}
	f := boot.Facts{}
	if f.UserData, f.Cluster, err = boot.ReadUserData(data); err != nil {
		return nil, fmt.Errorf("%s: %w", userDataPath, err)
	}
	for _, warning := range f.UserData.Warnings {
		fmt.Fprintf(notes, "%s: warning: %s\n", userDataPath, warning)
	}
	if f.Instance, f.CPUs, err = readFacts(metadataPath, notes); err != nil {
		return nil, err
	}
	f.Image, err = image.Read(root)
	if errors.Is(err, fs.ErrNotExist) {
		f.Image, err = image.Release{Kubernetes: "1.37.2", PauseImage: "localhost/ovenbird/pause:1.37.2"}, nil
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

func readFacts(path string, notes io.Writer) (imds.Instance, int, error) {
	data := []byte(`{"instanceId": "i-0123456789abcdef0", "instanceType": "t3.medium", "cpus": 2,
		"region": "us-west-2", "availabilityZone": "us-west-2a",
		"privateDnsName": "ip-10-0-0-10.us-west-2.compute.internal", "privateIpv4": "10.0.0.10"}`)
	if path == "" {
		fmt.Fprintln(notes, "no --metadata: taking an example instance, a t3.medium")
	} else {
		var err error
		if data, err = readBounded(path); err != nil {
			return imds.Instance{}, 0, err
		}
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

// readBounded reads a file that a user names; "-" is standard input.
func readBounded(path string) ([]byte, error) {
	const limit = 1 << 20
	file := os.Stdin
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return nil, err
		}
		defer file.Close()
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes", path, limit)
	}
	return data, nil
}
