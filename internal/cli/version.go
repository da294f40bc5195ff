package cli

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// Stamped at link time by the Makefile: -X .../internal/cli.release=... and so on.
var (
	release    = "0.0.0-dev"
	commit     = "unknown"
	components = "" // name=version, comma-separated
)

// Version is what `version --output json` prints.
type Version struct {
	Release    string            `json:"release"`
	Commit     string            `json:"commit"`
	Go         string            `json:"go"`
	Components map[string]string `json:"components,omitempty"`
}

// BuildVersion returns what this binary was built from.
func BuildVersion() Version {
	v := Version{Release: release, Commit: commit, Go: runtime.Version(), Components: map[string]string{}}
	for pair := range strings.SplitSeq(components, ",") {
		if name, version, ok := strings.Cut(pair, "="); ok {
			v.Components[name] = version
		}
	}
	return v
}

func versionCommand(program string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the release, the commit and the component versions",
		Example: "  " + program + " version --output json",
		Args:    cobra.NoArgs,
	}
	output := AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := BuildVersion()
		return output.Print(cmd.OutOrStdout(), v, func(w io.Writer) error {
			fmt.Fprintf(w, "%s %s (%s, %s)\n", program, v.Release, v.Commit, v.Go)
			for pair := range strings.SplitSeq(components, ",") {
				if pair != "" {
					fmt.Fprintf(w, "  %s\n", strings.Replace(pair, "=", " ", 1))
				}
			}
			return nil
		})
	}
	return cmd
}
