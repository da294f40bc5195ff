package iam_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
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

// startAPIServer runs a real kube-apiserver on loopback that asks the webhook about bearer
// tokens, and returns how an administrator reaches it. Flags win over its own.
func startAPIServer(t *testing.T, etcd *clientv3.Client, webhook *httptest.Server, path string, flags ...string) *rest.Config {
	t.Helper()
	binary := component(t, "kubernetes/1.37.*/kube-apiserver")
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
	writeFile(t, in("webhook.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: webhook.Certificate().Raw})))
	writeFile(t, in("webhook.kubeconfig"), fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u"}],
		"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority":%q}}]}`, webhook.URL+path, in("webhook.crt")))

	port := freePort(t)
	output, err := os.Create(in("apiserver.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	args := append([]string{
		"--etcd-servers=" + etcd.Endpoints()[0], "--bind-address=127.0.0.1", "--secure-port=" + port, "--endpoint-reconciler-type=none",
		"--tls-cert-file=" + in("server.pem"), "--tls-private-key-file=" + in("server.pem"), "--client-ca-file=" + in("ca.crt"),
		"--service-account-issuer=https://test", "--service-account-key-file=" + in("sa.pub"), "--service-account-signing-key-file=" + in("sa.key"),
		"--service-cluster-ip-range=172.20.0.0/16", "--authorization-mode=Node,RBAC", "--anonymous-auth=false", "--enable-admission-plugins=NodeRestriction",
		"--authentication-token-webhook-config-file=" + in("webhook.kubeconfig"), "--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl=100ms",
	}, flags...)
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	config := &rest.Config{Host: "https://127.0.0.1:" + port, QPS: -1, TLSClientConfig: rest.TLSClientConfig{
		CAFile: in("ca.crt"), CertFile: in("admin.pem"), KeyFile: in("admin.pem"),
	}}
	awaitReady(t, config, output.Name())
	return config
}

func awaitReady(t *testing.T, config *rest.Config, log string) {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(config).Discovery().RESTClient()
	eventually(t, 90*time.Second, func(ctx context.Context) error {
		err := client.Get().AbsPath("/readyz").Do(ctx).Error()
		if err != nil {
			tail, _ := os.ReadFile(log)
			return fmt.Errorf("%w\n%s", err, tail[max(0, len(tail)-2000):])
		}
		return nil
	})
}

// eventually tries until try succeeds or the time is over.
func eventually(t *testing.T, limit time.Duration, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, err)
		}
	}
}

// component finds a built upstream program. Where it is not built the test is skipped, in
// CI it fails.
func component(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("../../dist/components", pattern))
	if err != nil || len(found) == 0 {
		message := pattern + " is not built: run `make components`"
		if os.Getenv("CI") == "true" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return found[0]
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tlsServer(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server
}
