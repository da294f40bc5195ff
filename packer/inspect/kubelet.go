package inspect

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const kubeletConfig = "/etc/kubernetes/kubelet/config.json"

// strongCiphers are those of CIS Kubernetes 4.2.12; TLS 1.3's cannot be chosen.
var strongCiphers = []string{
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
	"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
}

// isRendered is what controls need of files that the agent writes at boot.
func isRendered(m *machine) string {
	if reason := isNode(m); reason != "" {
		return reason
	}
	if m.Rendered == "" {
		return "the image has no ovenbird-agent that would write kubelet's configuration"
	}
	return ""
}

// kubeletFileControls are section 4.1 of the CIS Kubernetes benchmark. Since version 1.8
// it asks for 600 where 644 is wanted here: what is in these files is in every copy of the
// image, and root alone can write them.
var kubeletFileControls = []control{
	{
		id: "kubelet-unit-file", title: "root alone can write kubelet's unit", source: "CIS Kubernetes 4.1.1, 4.1.2", needs: isNode,
		want: "root:root, 644 or stricter",
		find: func(m *machine) ([]string, error) {
			const unit = "/usr/lib/systemd/system/kubelet.service"
			e, ok := m.entries[unit]
			if !ok {
				return []string{unit + " is missing"}, nil
			}
			return m.looser(unit, e, 0o644), nil
		},
	},
	rendered("kubelet-kubeconfig-file", "root alone can read kubelet's kubeconfig", "CIS Kubernetes 4.1.5, 4.1.6", "/var/lib/kubelet/kubeconfig", 0o600),
	rendered("kubelet-ca-file", "root alone can write the cluster's certificate authority", "CIS Kubernetes 4.1.7, 4.1.8", "/etc/kubernetes/pki/ca.crt", 0o644),
	rendered("kubelet-config-file", "root alone can write kubelet's configuration", "CIS Kubernetes 4.1.9, 4.1.10", kubeletConfig, 0o644),
}

// rendered is a control of the permissions of a file that the agent writes.
func rendered(id, title, source, file string, most fs.FileMode) control {
	return control{
		id: id, title: title, source: source, needs: isRendered,
		want: fmt.Sprintf("%s of the agent's user, root, with %o or stricter", file, most),
		find: func(m *machine) ([]string, error) {
			info, err := os.Stat(filepath.Join(m.Rendered, file))
			if os.IsNotExist(err) {
				return []string{file + " is not written"}, nil
			}
			if err != nil {
				return nil, err
			}
			if extra := info.Mode().Perm() &^ most; extra != 0 {
				return []string{fmt.Sprintf("%s %s", file, info.Mode())}, nil
			}
			return nil, nil
		},
	}
}

func (m *machine) looser(name string, e entry, most fs.FileMode) []string {
	if e.uid != 0 || e.gid != 0 || e.mode.Perm()&^most != 0 {
		return []string{m.describe(name)}
	}
	return nil
}

// kubeletControls are section 4.2 of the CIS Kubernetes benchmark. What is absent has
// kubelet's own default.
var kubeletControls = []control{
	setting("kubelet-anonymous", "Nobody uses kubelet without a name", "4.2.1", "authentication.anonymous.enabled", "false", is(false)),
	setting("kubelet-authorization", "The cluster decides who may use kubelet", "4.2.2", "authorization.mode", "Webhook", is("Webhook")),
	setting("kubelet-client-ca", "kubelet knows its clients by certificate", "4.2.3", "authentication.x509.clientCAFile", "a file", func(v any) bool {
		file, ok := v.(string)
		return ok && file != ""
	}),
	setting("kubelet-read-only-port", "kubelet has no port without authentication", "4.2.4", "readOnlyPort", "0 or absent", func(v any) bool {
		return v == nil || v == 0.0
	}),
	setting("kubelet-streaming-timeout", "Idle streams end", "4.2.5", "streamingConnectionIdleTimeout", "a time, or absent for 4h", func(v any) bool {
		text, ok := v.(string)
		d, err := time.ParseDuration(text)
		return v == nil || ok && err == nil && d > 0
	}),
	setting("kubelet-kernel-defaults", "kubelet does not change the kernel's settings", "4.2.6 until 1.6", "protectKernelDefaults", "true", is(true)),
	setting("kubelet-iptables", "kubelet keeps its iptables chains", "4.2.6", "makeIPTablesUtilChains", "true or absent", func(v any) bool {
		return v == nil || v == true
	}),
	setting("kubelet-event-rate", "Events are recorded", "4.2.8", "eventRecordQPS", "0 or more, or absent for 50", func(v any) bool {
		rate, ok := v.(float64)
		return v == nil || ok && rate >= 0
	}),
	setting("kubelet-rotate-certificates", "kubelet renews its client certificate", "4.2.10", "rotateCertificates", "true", is(true)),
	setting("kubelet-server-certificate", "The cluster signs kubelet's serving certificate", "4.2.11", "serverTLSBootstrap", "true", is(true)),
	setting("kubelet-server-certificate-rotation", "kubelet renews its serving certificate", "4.2.11", "featureGates.RotateKubeletServerCertificate", "true or absent", func(v any) bool {
		return v == nil || v == true
	}),
	setting("kubelet-ciphers", "kubelet speaks strong ciphers only", "4.2.12", "tlsCipherSuites", "suites with ECDHE and AEAD only", func(v any) bool {
		suites, ok := v.([]any)
		weak := slices.ContainsFunc(suites, func(suite any) bool {
			name, _ := suite.(string)
			return !slices.Contains(strongCiphers, name)
		})
		return ok && len(suites) > 0 && !weak
	}),
	setting("kubelet-pod-pids", "A pod cannot use up the node's process ids", "4.2.13", "podPidsLimit", "above 0", func(v any) bool {
		limit, ok := v.(float64)
		return ok && limit > 0
	}),
	{
		id: "kubelet-flags", title: "No flag of kubelet overrides its configuration", source: "CIS Kubernetes 4.2", needs: isRendered,
		want: "no authentication, authorization, port or TLS flag in /etc/eks/kubelet/environment",
		find: func(m *machine) ([]string, error) {
			text, err := os.ReadFile(filepath.Join(m.Rendered, "etc/eks/kubelet/environment"))
			if err != nil {
				return []string{fmt.Sprintf("it cannot be read: %v", err)}, nil
			}
			var found []string
			for word := range strings.FieldsSeq(strings.NewReplacer(`"`, " ", "NODEADM_KUBELET_ARGS=", "").Replace(string(text))) {
				for _, flag := range []string{"--anonymous-auth", "--authorization-mode", "--client-ca-file", "--read-only-port", "--tls-", "--rotate-", "--pod-max-pids", "--protect-kernel-defaults"} {
					if strings.HasPrefix(word, flag) {
						found = append(found, word)
					}
				}
			}
			return found, nil
		},
	},
}

func is(want any) func(any) bool { return func(v any) bool { return v == want } }

// setting is a control of a field of kubelet's configuration, named by its path. A field
// that is absent is nil.
func setting(id, title, section, field, want string, holds func(any) bool) control {
	return control{
		id: id, title: title, source: "CIS Kubernetes " + section, want: field + ": " + want, needs: isRendered,
		find: func(m *machine) ([]string, error) {
			content, err := os.ReadFile(filepath.Join(m.Rendered, kubeletConfig))
			if err != nil {
				return []string{fmt.Sprintf("%s cannot be read: %v", kubeletConfig, err)}, nil
			}
			var value any
			if err := json.Unmarshal(content, &value); err != nil {
				return []string{fmt.Sprintf("%s is not JSON: %v", kubeletConfig, err)}, nil
			}
			for part := range strings.SplitSeq(field, ".") {
				object, _ := value.(map[string]any)
				value = object[part]
			}
			if holds(value) {
				return nil, nil
			}
			if value == nil {
				return []string{field + " is absent"}, nil
			}
			return []string{fmt.Sprintf("%s: %v", field, value)}, nil
		},
	}
}
