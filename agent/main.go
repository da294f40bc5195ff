// Command ovenbird-agent joins an EC2 instance to its Kubernetes cluster. systemd runs it
// once the instance starts; people run it to see how far it is and to check a NodeConfig.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func main() {
	root := &cobra.Command{
		Use:   "ovenbird-agent",
		Short: "Join an EC2 instance to its Kubernetes cluster",
		Long: `ovenbird-agent makes an EC2 instance a Kubernetes node: it reads the NodeConfig in the
instance's user-data (node.eks.aws/v1alpha1), finds the cluster, gets the node a certificate
where the cluster signs one, configures and
starts containerd and kubelet, and waits until the Node is Ready. It retries whatever
fails for as long as it takes.`,
	}
	root.AddCommand(initCommand(), statusCommand(), timelineCommand(), metricsCommand(), doctorCommand(thisMachine),
		configCommand(), tokenCommand(), ecrCommand(), watchCommand())
	os.Exit(cli.Run(root))
}
