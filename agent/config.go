package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work on NodeConfigs"}
	cmd.AddCommand(configCheckCommand())
	return cmd
}

// checkResult is what config check prints.
type checkResult struct {
	File     string              `json:"file"`
	Cluster  string              `json:"cluster,omitempty"`
	Endpoint string              `json:"endpoint,omitempty"`
	Hosts    bool                `json:"hostsControlPlanes,omitempty"`
	Problems nodeconfig.Problems `json:"problems"`
	Warnings []string            `json:"warnings"`
}

func configCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check user-data as a node would read it",
		Long: `check reads user-data, a NodeConfig in YAML or JSON or a MIME multipart, as a node would
at boot, and prints one line for each problem: part, line of the part and field. It exits
with 1 if there is any. FILE may be - for standard input.`,
		Example: `  ovenbird-agent config check user-data.txt
  ovenbird-agent config check - < user-data.txt`,
		Args: cobra.ExactArgs(1),
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		result, err := check(args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		for _, warning := range result.Warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: warning: %s\n", result.File, warning)
		}
		err = output.Print(cmd.OutOrStdout(), result, func(w io.Writer) error {
			if len(result.Problems) == 0 { // else they are told as the error
				fmt.Fprintf(w, "%s: no problems; %s\n", result.File, whatFollows(result))
			}
			return nil
		})
		return errors.Join(err, failureOf(result))
	}
	return cmd
}

func check(path string, stdin io.Reader) (checkResult, error) {
	result := checkResult{File: path, Problems: nodeconfig.Problems{}, Warnings: []string{}}
	data, err := readBounded(path, stdin)
	if err != nil {
		return result, err
	}
	if path == "-" {
		result.File = "standard input"
	}
	userData, err := nodeconfig.Parse(data)
	cluster := exampleCluster()
	known := discover.SaysWhere(userData.Spec.Cluster)
	if err == nil && known {
		userData, cluster, err = boot.ReadUserData(data)
	}
	var problems nodeconfig.Problems
	switch {
	case errors.As(err, &problems):
		result.Problems = problems
		return result, nil
	case err != nil:
		return result, err
	}
	// What only shows when the files are made, on an instance like any other.
	facts := boot.Facts{Instance: exampleInstance(), Image: exampleImage(), CPUs: 2, MemoryMiB: exampleMemoryMiB, UserData: userData, Cluster: cluster}
	if _, err := facts.Files(); err != nil {
		result.Problems = userData.Locate(nodeconfig.Problems{nodeconfig.ProblemOf(err)})
		return result, nil
	}
	result.Warnings = append(result.Warnings, userData.Warnings...)
	if result.Hosts = userData.Host != nil; result.Hosts {
		return result, nil
	}
	result.Cluster = userData.Spec.Cluster.Name
	if known {
		result.Endpoint = cluster.Endpoint
	}
	return result, nil
}

// whatFollows says which cluster the node joins, as far as user-data tells.
func whatFollows(result checkResult) string {
	switch {
	case result.Hosts:
		return "the instance hosts control planes"
	case result.Endpoint != "":
		return fmt.Sprintf("the node joins cluster %s at %s", result.Cluster, result.Endpoint)
	case result.Cluster != "":
		return fmt.Sprintf("the node asks EKS where cluster %s is", result.Cluster)
	}
	return fmt.Sprintf("the node takes its cluster's name from its tags (%s) and asks EKS where that is", strings.Join(discover.NameTags, ", "))
}

// failureOf makes one line of each problem.
func failureOf(result checkResult) error {
	if len(result.Problems) == 0 {
		return nil
	}
	lines := make([]string, len(result.Problems))
	for i, problem := range result.Problems {
		lines[i] = result.File + ": " + problem.Error()
	}
	return errors.New(strings.Join(lines, "\n"))
}
