// Package registrytest gives tests a registry in a real etcd of their own.
package registrytest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// New starts etcd from dist/components on free loopback ports and returns a registry in
// it; both end with the test. Where etcd is not built the test is skipped, in CI it fails.
func New(t testing.TB) *registry.Registry {
	t.Helper()
	return registry.New(Etcd(t))
}

// Etcd is New for tests that want the client.
func Etcd(t testing.TB) *clientv3.Client {
	t.Helper()
	binary := find(t)
	client, peer := "http://"+freeAddress(t), "http://"+freeAddress(t)
	output, err := os.Create(filepath.Join(t.TempDir(), "etcd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	// Durability is not what these tests are about.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "--name=test", "--data-dir="+t.TempDir(), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})

	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The client retries until the server answers or ctx ends.
	for {
		if _, err = etcd.Get(ctx, "ready"); err == nil {
			return etcd
		}
		if ctx.Err() != nil {
			log, _ := os.ReadFile(output.Name())
			t.Fatalf("etcd does not answer: %v\n%s", err, log)
		}
	}
}

func find(t testing.TB) string {
	t.Helper()
	root, err := repositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	found, _ := filepath.Glob(filepath.Join(root, "dist/components/etcd/*/etcd"))
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("etcd is not built: run `make components`")
		}
		t.Skip("etcd is not built: run `make components`")
	}
	return found[len(found)-1]
}

func repositoryRoot() (string, error) {
	directory, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; directory != "/"; directory = filepath.Dir(directory) {
		if _, err := os.Stat(filepath.Join(directory, "go.mod")); err == nil {
			return directory, nil
		}
	}
	return "", fmt.Errorf("no go.mod above the working directory")
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
