// Package kubetest gives tests and measurements a real kube-apiserver, and the signer of
// kube-controller-manager, from dist/components on loopback. All end with the test. Where a
// program is not built the test is skipped, in CI it fails.
package kubetest

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

const (
	startTimeout = 90 * time.Second
	pollEvery    = 50 * time.Millisecond
)

// APIServer runs kube-apiserver over etcd, and returns how an administrator reaches it. It
// asks the webhook at path about bearer tokens, unless that is nil. Flags win over its own.
func APIServer(t testing.TB, etcd *clientv3.Client, webhook *httptest.Server, path string, flags ...string) *rest.Config {
	t.Helper()
	directory := t.TempDir()
	_, err := pki.Ensure(directory, pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: "ca", CommonName: "test"}},
		SigningKeys: []string{"sa"},
		Leaves: []pki.Leaf{
			{Name: "server", Authority: "ca", CommonName: "apiserver", IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Usage: pki.Server, Lifetime: time.Hour},
			{Name: "admin", Authority: "ca", CommonName: "test", Organizations: []string{"system:masters"}, Usage: pki.Client, Lifetime: time.Hour},
		},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(directory, name) }
	port := freePort(t)
	args := []string{
		"--etcd-servers=" + etcd.Endpoints()[0], "--bind-address=127.0.0.1", "--secure-port=" + port, "--endpoint-reconciler-type=none",
		"--tls-cert-file=" + in("server.pem"), "--tls-private-key-file=" + in("server.pem"), "--client-ca-file=" + in("ca.crt"),
		"--service-account-issuer=https://test", "--service-account-key-file=" + in("sa.pub"), "--service-account-signing-key-file=" + in("sa.key"),
		"--service-cluster-ip-range=172.20.0.0/16", "--authorization-mode=Node,RBAC", "--anonymous-auth=false", "--enable-admission-plugins=NodeRestriction",
	}
	if webhook != nil {
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: webhook.Certificate().Raw})
		writeFile(t, in("webhook.crt"), string(authority))
		writeFile(t, in("webhook.kubeconfig"), kubeconfig(webhook.URL+path, in("webhook.crt"), ""))
		args = append(args, "--authentication-token-webhook-config-file="+in("webhook.kubeconfig"),
			"--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl=100ms")
	}
	start(t, "kube-apiserver", in("apiserver.log"), append(args, flags...))
	config := &rest.Config{Host: "https://127.0.0.1:" + port, QPS: -1, TLSClientConfig: rest.TLSClientConfig{
		CAFile: in("ca.crt"), CertFile: in("admin.pem"), KeyFile: in("admin.pem"),
	}}
	awaitReady(t, config, in("apiserver.log"))
	return config
}

// Signer runs the controller that signs approved certificate requests, and nothing else of
// kube-controller-manager, for an API server of APIServer.
func Signer(t testing.TB, admin *rest.Config, lifetime time.Duration) {
	t.Helper()
	directory := filepath.Dir(admin.CAFile)
	in := func(name string) string { return filepath.Join(directory, name) }
	writeFile(t, in("signer.kubeconfig"), kubeconfig(admin.Host, admin.CAFile, admin.CertFile))
	start(t, "kube-controller-manager", in("signer.log"), []string{
		"--kubeconfig=" + in("signer.kubeconfig"), "--controllers=certificatesigningrequest-signing-controller", "--leader-elect=false",
		"--cluster-signing-cert-file=" + in("ca.crt"), "--cluster-signing-key-file=" + in("ca.key"), "--cluster-signing-duration=" + lifetime.String(),
		"--bind-address=127.0.0.1", "--secure-port=" + freePort(t), "--cert-dir=" + directory,
	})
}

// start runs a program of Kubernetes until the test ends.
func start(t testing.TB, program, log string, args []string) {
	t.Helper()
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), Program(t, program), args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func awaitReady(t testing.TB, config *rest.Config, log string) {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(config).Discovery().RESTClient()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := client.Get().AbsPath("/readyz").Do(ctx).Error()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tail, _ := os.ReadFile(log)
			t.Fatalf("kube-apiserver is not ready: %v\n%s", err, tail[max(0, len(tail)-2000):])
		}
	}
}

// kubeconfig connects to server, with a certificate unless that is empty. JSON is YAML.
func kubeconfig(server, authority, certificate string) string {
	user := "{}"
	if certificate != "" {
		user = fmt.Sprintf(`{"client-certificate":%[1]q,"client-key":%[1]q}`, certificate)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":%s}],
		"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority":%q}}]}`, user, server, authority)
}

// Program returns the newest build of a program of Kubernetes.
func Program(t testing.TB, program string) string {
	t.Helper()
	directory, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; directory != "/"; directory = filepath.Dir(directory) {
		found, _ := filepath.Glob(filepath.Join(directory, "dist/components/kubernetes/*", program))
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if message := program + " is not built: run `make components`"; os.Getenv("CI") == "true" {
		t.Fatal(message)
	} else {
		t.Skip(message)
	}
	return ""
}

func freePort(t testing.TB) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
