package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// renderFlags are the flags of `ovenbird render`.
type renderFlags struct {
	out, components, version string
	advertiseAddress         string
	port                     int
	serviceCIDR, podCIDR     string
}

func newRenderCommand() *cobra.Command {
	var flags renderFlags
	cmd := &cobra.Command{
		Use:   "render NAME",
		Short: "Lay a cluster's control plane out in a directory, and start nothing",
		Long: `Lay a cluster's control plane out in a directory, and start nothing: keys, configuration,
command lines and add-on manifests, exactly as the service would run them. For looking at
it, and for running it by other means. In the directory:

  start/NAME.args    the program and its arguments, one a line; start/order has the order
  start/NAME.probe   URL that answers 200 when it is ready, and the files to ask it with:
                     authority, then certificate and key
  apply/N.json       add-ons, to send by server-side apply to the URL in apply/N.url`,
		Example: "  ovenbird render blue --out /tmp/blue --advertise-address 10.0.0.10",
		Args:    cobra.ExactArgs(1),
	}
	set := cmd.Flags()
	set.StringVar(&flags.out, "out", "", "directory to fill")
	set.StringVar(&flags.components, "components", defaultComponents, "directory of upstream programs")
	set.StringVar(&flags.version, "kubernetes-version", "", "minor version (default: the newest there is)")
	set.StringVar(&flags.advertiseAddress, "advertise-address", "", "address that the API server listens on")
	set.IntVar(&flags.port, "port", 6443, "port that the API server listens on")
	set.StringVar(&flags.serviceCIDR, "service-cidr", "10.100.0.0/16", "addresses for services")
	set.StringVar(&flags.podCIDR, "pod-cidr", defaultPodCIDR, "addresses for pods")
	for _, name := range []string{"out", "advertise-address"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rendering, err := flags.render(args[0])
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), rendering.Components, func(w io.Writer) error {
			for _, c := range rendering.Components {
				if _, err := fmt.Fprintf(w, "%s %s\n  %s\n", c.Name, c.Version, commandLine(c)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func (f renderFlags) render(name string) (cluster.Rendering, error) {
	address, err := netip.ParseAddr(f.advertiseAddress)
	if err != nil {
		return cluster.Rendering{}, cli.Usage(fmt.Errorf("--advertise-address %q: want an IP address", f.advertiseAddress))
	}
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return cluster.Rendering{}, cli.Usage(fmt.Errorf("cluster name %q: want letters, digits, - and _", name))
	}
	catalog, err := component.OpenCatalog(f.components)
	if err != nil {
		return cluster.Rendering{}, fmt.Errorf("--components: %w", err)
	}
	if f.version == "" {
		minors, err := catalog.Minors()
		if err != nil {
			return cluster.Rendering{}, err
		}
		f.version = minors[0]
	}
	if _, err := catalog.Newest(f.version); err != nil {
		return cluster.Rendering{}, cli.Usage(fmt.Errorf("--kubernetes-version: %w", err))
	}
	out, err := makeStateDir(f.out)
	if err != nil {
		return cluster.Rendering{}, err
	}
	hook, err := openWebhook(out)
	if err != nil {
		return cluster.Rendering{}, err
	}
	rendering, err := hook.site(out, address, "", catalog).Render(registry.Cluster{
		Name: name, Version: f.version, Port: f.port, ServiceCIDR: f.serviceCIDR, PodCIDR: f.podCIDR,
	}, time.Now())
	if err != nil {
		return cluster.Rendering{}, err
	}
	return rendering, writeRendering(out, rendering)
}

// writeRendering writes what a script needs to start and use a rendered control plane.
func writeRendering(out string, r cluster.Rendering) error {
	files := map[string]string{}
	var order strings.Builder
	for _, c := range r.Components {
		fmt.Fprintln(&order, c.Name)
		files["start/"+c.Name+".args"] = c.Path + "\n" + strings.Join(c.Args, "\n") + "\n"
		files["start/"+c.Name+".probe"] = c.Probe.Ready + "\n" + c.Probe.Authority + "\n" + c.Probe.Certificate + "\n"
	}
	files["start/order"] = order.String()
	for i, m := range r.Manifests {
		name := fmt.Sprintf("apply/%02d", i)
		files[name+".json"] = string(m.Body)
		files[name+".url"] = r.Endpoint + m.Path + "?fieldManager=" + cluster.FieldManager + "&force=true\n"
	}
	for name, content := range files {
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("write rendering: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("write rendering: %w", err)
		}
	}
	return nil
}

// commandLine is what a shell would be given.
func commandLine(c component.Component) string {
	var line bytes.Buffer
	line.WriteString(c.Path)
	for _, arg := range c.Args {
		line.WriteString(" \\\n    ")
		if strings.ContainsAny(arg, " *?$'\"&;|<>()") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		line.WriteString(arg)
	}
	return line.String()
}
