package nodeconfig

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"sigs.k8s.io/yaml"
)

// HostAPIVersion and HostKind mark the document that makes an instance a host of control
// planes instead of a node.
const (
	HostAPIVersion = "ovenbird.dev/v1alpha1"
	HostKind       = "ControlPlaneHost"
)

// HostPath is where the agent leaves the ControlPlaneHost of user-data for `ovenbird host`, in
// JSON. It is gone with the next boot.
const HostPath = "/run/ovenbird/host.json"

// ControlPlaneHost says what an instance needs to run `ovenbird serve` where another one has
// left off. There is no secret in it.
type ControlPlaneHost struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Spec       HostSpec       `json:"spec"`
}

// HostSpec is what the host is.
type HostSpec struct {
	// VolumeID is the EBS volume that holds all that the service keeps, in the instance's zone.
	VolumeID string `json:"volumeId"`
	// NetworkInterfaceID is the network interface with the address that nodes know, in the
	// instance's zone.
	NetworkInterfaceID string `json:"networkInterfaceId"`
	// PublicHost is the name at which others reach the EKS API, with a port unless it is 443.
	PublicHost string `json:"publicHost"`
	// PodCIDR is --pod-cidr of `ovenbird serve`; empty: its default.
	PodCIDR string `json:"podCIDR,omitempty"`
	// Policy is what --policy of `ovenbird serve` names a file of.
	Policy map[string]any `json:"policy"`
	// Backups is nil when none are taken.
	Backups *HostBackups `json:"backups,omitempty"`
	// LogGroup is --log-group of `ovenbird serve`; empty: nothing goes to CloudWatch.
	LogGroup string `json:"logGroup,omitempty"`
}

// HostBackups are the backups that the service takes by itself.
type HostBackups struct {
	To       string `json:"to"`       // s3://bucket/prefix
	Interval string `json:"interval"` // as time.ParseDuration reads it
	Keep     *int   `json:"keep,omitempty"`
	// KeyParameter is the SSM parameter, a SecureString, that holds the key of the backups. The
	// first host makes it.
	KeyParameter string `json:"keyParameter"`
	// KMSKeyID encrypts that parameter; empty: the account's own key of SSM does.
	KMSKeyID string `json:"kmsKeyId,omitempty"`
}

// Patterns of what ends up in the arguments of a program: none has room for a space.
const (
	volumeID      = `^vol-[0-9a-f]{8,17}$`
	interfaceID   = `^eni-[0-9a-f]{8,17}$`
	publicHost    = `^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`
	bucketPrefix  = `^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/=-]*)?$`
	parameterName = `^(/[A-Za-z0-9_.-]+)+$`
	kmsKeyID      = `^[A-Za-z0-9:/_-]+$`
	logGroup      = `^[A-Za-z0-9._/#-]{1,512}$`
)

// isHost tells whether the document is of this project's own API.
func (d document) isHost() bool {
	if !bytes.Contains(d.data, []byte(HostAPIVersion)) {
		return false // nearly always, and cheaply
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	return yaml.Unmarshal(d.data, &head) == nil && head.APIVersion == HostAPIVersion
}

// readHosts reads the documents that make the instance a host, of which there can be one.
func readHosts(documents []document) (*ControlPlaneHost, Problems) {
	var read *ControlPlaneHost
	var problems Problems
	for i, d := range documents {
		if i > 0 {
			problems = append(problems, d.problem("kind", "a second %s: there can be only one", HostKind))
			continue
		}
		read = &ControlPlaneHost{}
		data, found := d.strictly(read)
		if data != nil {
			c := &checker{part: d.part}
			c.host(*read)
			found = append(found, c.problems...)
		}
		problems = append(problems, d.locate(found)...)
	}
	return read, problems
}

func (c *checker) host(h ControlPlaneHost) {
	if h.Kind != HostKind {
		c.problem("kind", "want %s, not %q", HostKind, h.Kind)
		return
	}
	c.matching("spec.volumeId", h.Spec.VolumeID, volumeID, "the ID of an EBS volume, vol-...")
	c.matching("spec.networkInterfaceId", h.Spec.NetworkInterfaceID, interfaceID, "the ID of a network interface, eni-...")
	c.matching("spec.publicHost", h.Spec.PublicHost, publicHost, "host or host:port")
	if prefix, err := netip.ParsePrefix(h.Spec.PodCIDR); h.Spec.PodCIDR != "" && (err != nil || prefix != prefix.Masked()) {
		c.problem("spec.podCIDR", "want a network such as 10.244.0.0/16, not %q", h.Spec.PodCIDR)
	}
	if len(h.Spec.Policy) == 0 {
		c.problem("spec.policy", "missing: without it nobody may call the EKS API")
	}
	if h.Spec.LogGroup != "" {
		c.matching("spec.logGroup", h.Spec.LogGroup, logGroup, "the name of a CloudWatch log group")
	}
	b := h.Spec.Backups
	if b == nil {
		return
	}
	c.matching("spec.backups.to", b.To, bucketPrefix, "s3://bucket/prefix")
	c.matching("spec.backups.keyParameter", b.KeyParameter, parameterName, "the name of an SSM parameter, /a/b")
	if b.KMSKeyID != "" {
		c.matching("spec.backups.kmsKeyId", b.KMSKeyID, kmsKeyID, "the ID, ARN or alias of a KMS key")
	}
	if every, err := time.ParseDuration(b.Interval); err != nil || every < time.Minute {
		c.problem("spec.backups.interval", "want a time of a minute or more such as 6h, not %q", b.Interval)
	}
	if b.Keep != nil && *b.Keep < 0 {
		c.problem("spec.backups.keep", "want how many stay, or 0 for all, not %d", *b.Keep)
	}
}

func (c *checker) matching(field, value, pattern, want string) {
	switch {
	case value == "":
		c.problem(field, "missing: want %s", want)
	case !matches(pattern, value):
		c.problem(field, "want %s, not %q", want, value)
	}
}

// idleOnHost are warnings of what a NodeConfig beside a ControlPlaneHost says in vain.
func (s Spec) idleOnHost() []string {
	var warnings []string
	for _, field := range []struct {
		name string
		said bool
	}{
		{"spec.cluster", !reflect.ValueOf(s.Cluster).IsZero()},
		{"spec.containerd", !reflect.ValueOf(s.Containerd).IsZero()},
		{"spec.kubelet", !reflect.ValueOf(s.Kubelet).IsZero()},
		{"spec.instance.localStorage", !reflect.ValueOf(s.Instance.LocalStorage).IsZero()},
		{"spec.featureGates", len(s.FeatureGates) > 0},
	} {
		if field.said {
			warnings = append(warnings, field.name+": no effect on an instance that hosts control planes")
		}
	}
	return warnings
}

// cutHosts takes the documents that make the instance a host out of documents.
func (u *UserData) cutHosts(documents []document) []document {
	return slices.DeleteFunc(documents, func(d document) bool {
		if !d.isHost() {
			return false
		}
		u.hosts = append(u.hosts, d)
		return true
	})
}
