package nodeconfig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	containerdconfig "github.com/ovenbird-dev/ovenbird/agent/containerd"
	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods"
)

const notYet = "not supported yet"

// Patterns, compiled where they are used: the agent starts a little sooner.
const (
	clusterName = `^[0-9A-Za-z][0-9A-Za-z_-]*$` // and 100 characters at most
	mountPath   = `^(/[A-Za-z0-9._-]+)+$`
	// No place for a drive, and below most of them none either.
	systemDirectory = `^/((bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|run|sbin|sys|tmp|usr|var/lib/kubelet|var/lib/containerd|var/log/pods)(/.*)?|home|opt|root|srv|var|var/lib|var/log)$`
	variableName    = `^[A-Za-z_][A-Za-z0-9_]*$`
	domainName      = `^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`
)

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// IsClusterName tells whether name can be a cluster's.
func IsClusterName(name string) bool { return len(name) <= 100 && matches(clusterName, name) }

// checker collects what is wrong with one document.
type checker struct {
	part     part
	problems Problems
	warnings Problems
}

func (c *checker) problem(field, format string, args ...any) {
	c.problems = append(c.problems, c.part.problem(field, format, args...))
}

// check looks at the values of one document. What must be there is not its business: it
// may come with another document.
func (p part) check(config Config) (problems, warnings Problems) {
	c := &checker{part: p}
	if config.APIVersion != APIVersion {
		c.problem("apiVersion", "want %s, not %q", APIVersion, config.APIVersion)
	}
	if config.Kind != Kind {
		c.problem("kind", "want %s, not %q", Kind, config.Kind)
	}
	c.cluster(config.Spec.Cluster)
	c.containerd(config.Spec.Containerd)
	c.instance(config.Spec.Instance)
	c.kubelet(config.Spec.Kubelet)
	c.featureGates(config.Spec.FeatureGates)
	return c.problems, c.warnings
}

func (c *checker) cluster(cluster Cluster) {
	if cluster.Name != "" && !IsClusterName(cluster.Name) {
		c.problem("spec.cluster.name", "%q is not a cluster name: a letter or digit first, then letters, digits, - and _, 100 at most", cluster.Name)
	}
	if cluster.APIServerEndpoint != "" {
		if err := checkEndpoint(cluster.APIServerEndpoint); err != nil {
			c.problem("spec.cluster.apiServerEndpoint", "%v", err)
		}
	}
	if cluster.CertificateAuthority != "" {
		if _, err := cluster.CA(); err != nil {
			c.problem("spec.cluster.certificateAuthority", "%v", err)
		}
	}
	if cluster.CIDR != "" {
		if _, err := netip.ParsePrefix(cluster.CIDR); err != nil {
			c.problem("spec.cluster.cidr", "%q is not a CIDR block such as 10.100.0.0/16", cluster.CIDR)
		}
	}
	if cluster.EnableOutpost != nil && *cluster.EnableOutpost {
		c.problem("spec.cluster.enableOutpost", notYet)
	}
}

// CA returns the certificate authority in PEM.
func (cluster Cluster) CA() ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(cluster.CertificateAuthority), ""))
	if err != nil {
		return nil, errors.New("not base64")
	}
	if err := checkCertificates(data); err != nil {
		return nil, err
	}
	return data, nil
}

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err == nil && u.User != nil {
		return errors.New("want no user in it") // and tell no password
	}
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not an endpoint such as https://host:443", endpoint)
	}
	return nil
}

func (c *checker) containerd(containerd Containerd) {
	if err := toml.Unmarshal([]byte(containerd.Config), &map[string]any{}); err != nil {
		where := ""
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			row, column := syntax.Position()
			where = fmt.Sprintf(" at line %d, column %d", row, column)
		}
		c.problem("spec.containerd.config", "not TOML%s: %s", where, strings.TrimPrefix(err.Error(), "toml: "))
	}
	for _, warning := range containerdconfig.Warnings(containerd.Config) {
		c.warnings = append(c.warnings, c.part.problem("spec.containerd.config", "%s", warning))
	}
}

func (c *checker) instance(instance Instance) {
	c.localStorage(instance.LocalStorage)
	if len(instance.Storage.Volumes) > 0 {
		c.problem("spec.instance.storage.volumes", notYet)
	}
	for i, server := range instance.Network.Nameservers {
		if address, err := netip.ParseAddr(server); err != nil || address.Zone() != "" {
			c.problem(fmt.Sprintf("spec.instance.network.nameservers[%d]", i), "%q is not an IP address", server)
		}
	}
	for i, domain := range instance.Network.Domains {
		if !matches(domainName, domain) || len(domain) > 253 {
			c.problem(fmt.Sprintf("spec.instance.network.domains[%d]", i), "%q is not a domain such as example.com", domain)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(instance.Environment)) {
		variables := instance.Environment[service]
		field := "spec.instance.environment." + service
		if !slices.Contains([]string{EnvironmentDefault, EnvironmentKubelet, EnvironmentContainerd}, service) {
			c.problem(field, "unknown field: want %s, %s or %s", EnvironmentDefault, EnvironmentKubelet, EnvironmentContainerd)
		}
		for _, name := range slices.Sorted(maps.Keys(variables)) {
			value := variables[name]
			if !matches(variableName, name) {
				c.problem(field, "%q is not the name of an environment variable", name)
			}
			if strings.ContainsAny(value, "\n\r\x00") {
				c.problem(field+"."+name, "a value must be one line")
			}
		}
	}
}

func (c *checker) localStorage(storage LocalStorage) {
	const field = "spec.instance.localStorage."
	if storage.Strategy != "" && !slices.Contains([]string{"RAID0", "RAID10", "Mount"}, storage.Strategy) {
		c.problem(field+"strategy", "%q is none of RAID0, RAID10, Mount", storage.Strategy)
	}
	switch {
	case storage.MountPath == "":
	case !matches(mountPath, storage.MountPath) || path.Clean(storage.MountPath) != storage.MountPath:
		c.problem(field+"mountPath", "%q is not a path such as /mnt/k8s-disks: want an absolute one of letters, digits, - _ and .", storage.MountPath)
	case matches(systemDirectory, storage.MountPath):
		c.problem(field+"mountPath", "%s is the system's own: use a directory in /mnt or /var", storage.MountPath)
	}
	for i, mount := range storage.DisabledMounts {
		if mount != "Containerd" && mount != "PodLogs" {
			c.problem(fmt.Sprintf(field+"disabledMounts[%d]", i), "%q is none of Containerd, PodLogs", mount)
		}
	}
}

// incomplete is of the merged NodeConfig: what says where, without what says that.
func (storage LocalStorage) incomplete() (problems Problems) {
	const field, want = "spec.instance.localStorage.", "has no effect without localStorage.strategy: add RAID0, RAID10 or Mount"
	if storage.Strategy == "" && storage.MountPath != "" {
		problems = append(problems, Problem{Field: field + "mountPath", Message: want})
	}
	if storage.Strategy == "" && len(storage.DisabledMounts) > 0 {
		problems = append(problems, Problem{Field: field + "disabledMounts", Message: want})
	}
	return problems
}

func (c *checker) kubelet(options Kubelet) {
	for i, flag := range options.Flags {
		field := fmt.Sprintf("spec.kubelet.flags[%d]", i)
		switch {
		case !strings.HasPrefix(flag, "-"):
			c.problem(field, "%q is not a flag such as --node-labels=a=b", flag)
		case strings.ContainsAny(flag, "\n\r\x00"):
			c.problem(field, "a flag must be one line")
		}
	}
	if options.MaxPodsExpression != "" {
		if err := maxpods.Check(options.MaxPodsExpression); err != nil {
			c.problem("spec.kubelet.maxPodsExpression", "%v", err)
		}
	}
	for _, is := range []struct{ key, want string }{{"apiVersion", "kubelet.config.k8s.io/v1beta1"}, {"kind", "KubeletConfiguration"}} {
		if got, ok := options.Config[is.key]; ok && got != is.want {
			c.problem("spec.kubelet.config."+is.key, "want %s, not %s", is.want, describe(got))
		}
	}
	c.kubeletObject(kubeletShape(), "", options.Config)
}

// featureGates warns of what has no effect: gates come and go between releases of an image,
// and a node without one still works.
func (c *checker) featureGates(gates map[string]bool) {
	for _, gate := range slices.Sorted(maps.Keys(gates)) {
		if gates[gate] && gate != InstanceIDNodeName {
			c.warnings = append(c.warnings, c.part.problem("spec.featureGates."+gate, "there is no such feature here, so it has no effect"))
		}
	}
}
