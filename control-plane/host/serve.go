package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// arguments are those of `ovenbird serve` on a host. No value has a space: nodeconfig and netip
// see to that.
func arguments(spec nodeconfig.HostSpec, instance imds.Instance, at netip.Addr) []string {
	name := spec.PublicHost
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	args := []string{
		"--listen", netip.AddrPortFrom(at, 443).String(),
		"--public-host", spec.PublicHost, "--tls-name", name,
		"--region", instance.Region, "--account-id", instance.AccountID,
		"--state-dir", StateDir, "--components", componentsDir, "--policy", policyFile,
	}
	if spec.PodCIDR != "" {
		args = append(args, "--pod-cidr", spec.PodCIDR)
	}
	if spec.LogGroup != "" {
		args = append(args, "--log-group", spec.LogGroup, "--log-source", instance.ID)
	}
	if b := spec.Backups; b != nil {
		args = append(args, "--backup-to", b.To, "--backup-interval", b.Interval, "--backup-key-file", keyFile)
		if b.Keep != nil {
			args = append(args, "--backup-keep", strconv.Itoa(*b.Keep))
		}
	}
	return args
}

// writeFiles writes what ovenbird.service reads.
func (h *Host) writeFiles(context.Context) error {
	policy, err := json.MarshalIndent(h.Spec.Policy, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the policy: %w", err)
	}
	line := "OVENBIRD_SERVE=" + strings.Join(arguments(h.Spec, h.Instance, h.at.address), " ") + "\n"
	return h.Root.Apply(
		rootfs.File{Path: policyFile, Data: append(policy, '\n')},
		rootfs.File{Path: argumentsFile, Data: []byte(line)})
}
