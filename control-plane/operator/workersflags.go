package operator

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// workersFlags are the flags of create and update: what is wanted of the workers.
type workersFlags struct {
	nodes, min, max, volumeSize int
	instanceTypes, subnets      []string
	ami, amiParameter, role     string
	spot                        bool
	labels, taints              []string
	nodeConfig, script          string
	trust, parameters           []string
	confirm                     confirmation
	timeout                     time.Duration
}

func (w *workersFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&w.nodes, "nodes", 0, "so many nodes, and one more while an update replaces them")
	f.IntVar(&w.min, "min", 0, "at least so many nodes, for something that scales the group, such as Cluster Autoscaler")
	f.IntVar(&w.max, "max", 0, "at most so many nodes")
	f.StringVar(&w.ami, "ami", "", "ID of the image")
	f.StringVar(&w.amiParameter, "ami-parameter", "", "SSM parameter that holds the image's ID, such as /ovenbird/stable/image_id:7; another version is another image")
	f.StringArrayVar(&w.instanceTypes, "instance-type", nil, "type of instance; up to four, the first is wanted most")
	f.BoolVar(&w.spot, "spot", false, "Spot Instances")
	f.IntVar(&w.volumeSize, "volume-size", 0, "GiB of the root volume")
	f.StringArrayVar(&w.subnets, "subnet", nil, "ID of a subnet to have nodes in (default: those of the cluster)")
	f.StringVar(&w.role, "role", "", "name of an existing role of nodes and its instance profile (default: the stack makes one)")
	f.StringArrayVar(&w.labels, "label", nil, "label of the nodes, KEY=VALUE")
	f.StringArrayVar(&w.taints, "taint", nil, "taint of the nodes, KEY=VALUE:EFFECT")
	f.StringVar(&w.nodeConfig, "node-config", "", "file with another NodeConfig, which wins")
	f.StringVar(&w.script, "script", "", "file with a shell script that runs once before kubelet starts")
	f.StringArrayVar(&w.trust, "trust", nil, "PEM file of an authority that nodes trust for AWS calls")
	// Not a slice: a value may hold commas.
	f.StringArrayVar(&w.parameters, "parameter", nil, "any parameter of the template, NAME=VALUE")
	w.confirm.add(cmd)
	addFollowTimeout(cmd, &w.timeout)
}

// addFollowTimeout gives cmd a timeout longer than that of clusters: a group with many nodes is
// replaced node by node, each with its drain.
func addFollowTimeout(cmd *cobra.Command, timeout *time.Duration) {
	cmd.Flags().DurationVar(timeout, "timeout", 3*time.Hour, "how long to follow what CloudFormation does")
}

// settings are what the flags on cmd's command line say, with the files that they name.
func (w *workersFlags) settings(cmd *cobra.Command) (workers.Settings, error) {
	others, err := parsePairs("--parameter", "NAME=VALUE", w.parameters)
	if err != nil {
		return workers.Settings{}, cli.Usage(err)
	}
	s := workers.Settings{
		InstanceTypes: w.instanceTypes, Image: w.ami, ImageParameter: w.amiParameter, Subnets: w.subnets,
		Labels: w.labels, Taints: w.taints, Role: w.role, Others: others,
	}
	given := func(flag string, value *int) *int {
		if cmd.Flags().Changed(flag) {
			return value
		}
		return nil
	}
	s.Nodes, s.Min, s.Max, s.VolumeSize = given("nodes", &w.nodes), given("min", &w.min), given("max", &w.max), given("volume-size", &w.volumeSize)
	if cmd.Flags().Changed("spot") {
		s.Spot = &w.spot
	}
	if s.NodeConfig, err = readText("--node-config", w.nodeConfig); err != nil {
		return s, err
	}
	if s.Script, err = readText("--script", w.script); err != nil {
		return s, err
	}
	trusted, err := readTrusted(w.trust)
	s.Trusted = string(bytes.Join(trusted, nil))
	return s, err
}

func readText(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf("%s %s: the file is empty", flag, file)
	}
	return string(text), nil
}

// readableByNodes reads the settings' texts as an agent will, before an instance is started
// that could not.
func readableByNodes(of workers.Cluster, s workers.Settings) error {
	var own, trusted [][]byte
	for _, text := range []string{s.NodeConfig, s.Script} {
		if text != "" {
			own = append(own, []byte(text))
		}
	}
	if s.Trusted != "" {
		trusted = append(trusted, []byte(s.Trusted))
	}
	_, err := renderUserData(joinable{name: of.Name, endpoint: of.Endpoint, authority: of.Authority, serviceCIDR: of.ServiceCIDR}, nil, trusted, own)
	return err
}
