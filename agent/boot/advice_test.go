package boot_test

import (
	"context"
	"encoding/base64"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/discover/ekstest"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
)

// closedPort returns "127.0.0.1:port" where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// stuck joins until phase has failed once, and returns its status.
func (w *world) stuck(name string) boot.PhaseStatus {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	w.onStatus = func(headline string) {
		if strings.Contains(headline, name+" (try 1 failed") {
			cancel()
		}
	}
	if err := w.join(ctx); err == nil {
		w.t.Fatalf("%s does not fail", name)
	}
	status, err := boot.ReadStatus(w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	return phase(w.t, status, name)
}

func TestAFailureComesWithWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		fault      func(w *world)
		phase      string
		error, say string
	}{
		"the metadata service is away": {
			func(w *world) { w.metadata.Drop(100) }, "metadata", "EOF", "HttpEndpoint must be enabled"},
		"user-data has a field too many": {
			func(w *world) { w.metadata.Set("user-data", w.userData("  kubelets: {}")) }, "configuration", "unknown field", "ovenbird-agent config check"},
		"nothing names the cluster": {
			func(w *world) { w.metadata.Unset("user-data") }, "configuration", "nothing names the cluster", "instance-metadata-tags enabled"},
		"a cluster of IPv6 and an instance without": {
			func(w *world) {
				w.metadata.Set("user-data", strings.Replace(w.userData(""), "10.100.0.0/16", "fd12:3456:789a::/108", 1))
			}, "configuration", "has no IPv6 address", "aws ec2 assign-ipv6-addresses"},
		"the image does not describe itself": {
			func(w *world) { os.Remove(w.root.Join("/etc/ovenbird/release.json")) }, "configuration", "image's description", "another image"},
		"the role may not describe the cluster": {
			func(w *world) {
				w.discover(ekstest.Answer{Status: 403, Error: "AccessDeniedException", Body: `{"message":"User: arn:aws:sts::111122223333:assumed-role/nodes/i-0 is not authorized"}`})
			}, "configuration", "assumed-role/nodes", "Allow the action eks:DescribeCluster"},
		"EKS has no such cluster": {
			func(w *world) {
				w.discover(ekstest.Answer{Status: 404, Error: "ResourceNotFoundException", Body: `{"message":"No cluster found"}`})
			}, "configuration", "No cluster found", "aws eks list-clusters"},
		"the cluster is being made": {
			func(w *world) { w.discover(ekstest.Cluster("CREATING", "", nil, "{}")) }, "configuration", "CREATING", "must be ACTIVE"},
		"EKS cannot be reached": {
			func(w *world) {
				eks := ekstest.Start(w.t)
				eks.URL = "https://" + closedPort(w.t)
				w.metadata.Set("user-data", discovered(eks, "{name: demo}", ""))
			}, "configuration", "refused", "VPC endpoint for com.amazonaws.REGION.eks"},
		"EKS shows a certificate that nobody trusts": {
			func(w *world) {
				eks := ekstest.Start(w.t)
				eks.CA = w.server.CA
				w.metadata.Set("user-data", discovered(eks, "{name: demo}", ""))
			}, "configuration", "unknown authority", "application/x-pem-file"},
		"the instance has no role": {
			func(w *world) {
				w.metadata.Set("meta-data/iam/security-credentials/ovenbird-node", `{"Code":"AssumeRoleUnauthorizedAccess"}`)
			}, "identity", "AWS credentials", "instance profile"},
		"the cluster does not know the role": {
			func(w *world) { w.server.Token = func(string) string { return "" } }, "identity", "does not accept who", "access entry"},
		"a token is not known either": {
			func(w *world) {
				w.identity = identity.Token
				w.server.Token = func(string) string { return "" }
			}, "api-server", "does not accept who", "access entry"},
		"the certificate is refused": {
			func(w *world) {
				w.server.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "the instance is not running" }
			}, "identity", "was refused", "kubectl describe csr"},
		"the API server is another cluster's": {
			func(w *world) {
				w.metadata.Set("user-data", strings.ReplaceAll(w.userData(""), base64.StdEncoding.EncodeToString(w.server.CA),
					base64.StdEncoding.EncodeToString(apiservertest.Start(w.t).CA)))
			}, "identity", "unknown authority", "certificateAuthority"},
		"the API server refuses connections": {
			func(w *world) {
				w.metadata.Set("user-data", strings.ReplaceAll(w.userData(""), w.server.URL, "https://"+closedPort(w.t)))
			}, "identity", "refused", "security group"},
		"the API server's name does not resolve": {
			func(w *world) {
				w.metadata.Set("user-data", strings.ReplaceAll(w.userData(""), w.server.URL, "https://eks.invalid"))
			}, "identity", "eks.invalid", "resolvectl query eks.invalid"},
		"the API server is not ready": {
			func(w *world) { w.server.Fail(503) }, "identity", "told to fail", "look at the control plane"},
		"containerd does not start": {
			func(w *world) { w.units.fail["containerd.service"] = 100 }, "containerd", "failed", "journalctl -u containerd"},
		"kubelet does not start": {
			func(w *world) { w.units.fail["kubelet.service"] = 100 }, "kubelet", "failed", "journalctl -u kubelet"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.fault(w)
			if got := w.stuck(test.phase); !strings.Contains(got.LastError, test.error) || !strings.Contains(got.WhatToDo, test.say) {
				t.Errorf("got %q, and to do: %q", got.LastError, got.WhatToDo)
			}
		})
	}
}

// discover leaves it to EKS, which gives answer, where the cluster is.
func (w *world) discover(answer ekstest.Answer) {
	w.metadata.Set("user-data", discovered(ekstest.Start(w.t, answer), "{name: demo}", ""))
}

func TestWhatToDoIsGoneOnceItIsDone(t *testing.T) {
	w := newWorld(t)
	w.units.fail["containerd.service"] = 2
	w.unitLog = []string{"level=fatal", "msg=" + strings.Repeat("x", 1000)}
	if during := w.stuck("containerd"); len(during.Log) != 2 || during.Log[0] != "level=fatal" || len(during.Log[1]) > 310 || during.WhatToDo == "" {
		t.Errorf("during the failure: %+v", during)
	}
	after := phase(t, w.mustJoin(), "containerd")
	if after.WhatToDo != "" || after.Log != nil || after.LastError == "" {
		t.Errorf("after it: %+v", after)
	}
}

func TestAfterMinutesTheConsoleHasWhatToDoAndWhatDoctorFinds(t *testing.T) {
	w := newWorld(t)
	w.units.fail["containerd.service"] = 60 // 15 seconds each
	w.unitLog = []string{"level=fatal msg=why"}
	w.examine = func(context.Context) (string, string) {
		return "cgroup v2 FAILED: no controller memory", "See /proc/cmdline."
	}
	w.mustJoin()
	var told []string
	for line := range strings.Lines(w.console.String()) {
		if _, after, ok := strings.Cut(line, "] containerd has failed for "); ok {
			minutes, _, _ := strings.Cut(after, " ")
			told = append(told, minutes)
		}
	}
	if !slices.Equal(told, []string{"3", "6", "12"}) {
		t.Errorf("the console tells after %q minutes:\n%s", told, w.console.String())
	}
	for _, want := range []string{
		"minutes: start containerd.service: failed\n", "] what to do: See `systemctl status containerd`", "] log: level=fatal msg=why\n",
		"] doctor: cgroup v2 FAILED: no controller memory\n", "] what to do: See /proc/cmdline.\n",
	} {
		if strings.Count(w.console.String(), want) != 3 {
			t.Errorf("the console has no three times %q:\n%s", want, w.console.String())
		}
	}
}

func TestAShortFailureDoesNotCallTheDoctor(t *testing.T) {
	w := newWorld(t)
	w.units.fail["containerd.service"] = 10
	w.examine = func(context.Context) (string, string) { t.Error("doctor was called"); return "", "" }
	w.mustJoin()
}
