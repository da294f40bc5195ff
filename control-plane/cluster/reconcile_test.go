package cluster

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
)

// These tests run the reconciler against a real registry with programs that refuse to run.
// What real programs do is tested with the whole service, in the package above.

// refusing is a catalog whose etcd says why it cannot run.
func refusing(t *testing.T) component.Catalog {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{
		"kubernetes/1.37.2/kube-apiserver", "kubernetes/1.37.2/kube-controller-manager", "kubernetes/1.37.2/kube-scheduler",
		"etcd/3.7.3/etcd", "coredns/1.15.0/coredns",
	} {
		path := filepath.Join(dir, program)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho the disk is full\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	catalog, err := component.OpenCatalog(dir)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

func reconciling(t *testing.T) (*registry.Registry, string) {
	t.Helper()
	return reconcilingAt(t, time.Now)
}

func reconcilingAt(t *testing.T, now func() time.Time) (*registry.Registry, string) {
	t.Helper()
	state, clusters := t.TempDir(), registrytest.New(t)
	if _, err := pki.Ensure(state, pki.Spec{Authorities: []pki.AuthorityRequest{{Name: "service", CommonName: "ovenbird-ca"}}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	authority, err := pki.LoadAuthority(state, "service")
	if err != nil {
		t.Fatal(err)
	}
	r := New(Options{
		Site: Site{
			StateDir: state, Address: netip.MustParseAddr("127.0.0.1"), Catalog: refusing(t),
			WebhookURL: "https://127.0.0.1:1", WebhookAuthority: authority, WebhookAuthorityFile: filepath.Join(state, "service.crt"),
		},
		Registry: clusters, Timing: supervise.Production(), Log: zap.NewNop(), Now: now,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		r.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if _, err := supervise.StopAll(context.Background(), state, time.Second); err != nil {
			t.Error(err)
		}
	})
	return clusters, state
}

func record(name string) registry.Cluster {
	return registry.Cluster{
		Name: name, Version: "1.37", ServiceCIDR: "172.20.0.0/16", PodCIDR: "10.244.0.0/16",
		Status: registry.Status{Phase: registry.PhaseCreating},
	}
}

// until waits for a record to be as wanted; err is ErrNotFound when it is gone.
func until(t *testing.T, clusters *registry.Registry, name string, wanted func(c registry.Cluster, err error) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range clusters.Watch(ctx) {
		if wanted(clusters.Get(ctx, name)) {
			return
		}
	}
	c, err := clusters.Get(t.Context(), name)
	t.Fatalf("cluster %s never got there: %+v, %v", name, c.Status, err)
}

func TestAClusterThatCannotBeMadeSaysWhyAndCanBeDeleted(t *testing.T) {
	tests := map[string]struct {
		change  func(*registry.Cluster)
		phase   string
		message string
	}{
		"for good, when its record makes no sense": {
			func(c *registry.Cluster) { c.PodCIDR = "10.244.0.0" }, registry.PhaseFailed, "pod network"},
		"until its version is there": {
			func(c *registry.Cluster) { c.Version = "1.99" }, registry.PhaseCreating, "1.99 has no components"},
		"until its programs run": {
			func(*registry.Cluster) {}, registry.PhaseCreating, "etcd is down: exit status 1: the disk is full"},
	}
	clusters, state := reconciling(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := record("blue")
			test.change(&c)
			if _, err := clusters.Create(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			until(t, clusters, "blue", func(c registry.Cluster, err error) bool {
				return err == nil && c.Status.Phase == test.phase && strings.Contains(c.Status.Message, test.message)
			})
			if _, err := clusters.Change(t.Context(), "blue", func(c *registry.Cluster) error { c.Deleting = true; return nil }); err != nil {
				t.Fatal(err)
			}
			until(t, clusters, "blue", func(_ registry.Cluster, err error) bool { return errors.Is(err, registry.ErrNotFound) })
			if _, err := os.Stat(Dir(state, "blue")); !os.IsNotExist(err) {
				t.Errorf("files are left: %v", err)
			}
		})
	}
}

func TestAClusterThatIsBeingRestoredIsLeftAloneAndCanBeDeleted(t *testing.T) {
	clusters, state := reconciling(t)
	restoring := record("blue")
	restoring.Status.Phase = registry.PhaseRestoring
	if _, err := clusters.Create(t.Context(), restoring); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"green", "red"} {
		if _, err := clusters.Create(t.Context(), record(name)); err != nil {
			t.Fatal(err)
		}
		until(t, clusters, name, func(c registry.Cluster, err error) bool {
			return err == nil && strings.Contains(c.Status.Message, "the disk is full")
		})
	}
	if _, err := os.Stat(Dir(state, "blue")); !os.IsNotExist(err) {
		t.Errorf("files were made: %v", err)
	}
	if _, err := clusters.Change(t.Context(), "blue", func(c *registry.Cluster) error { c.Deleting = true; return nil }); err != nil {
		t.Fatal(err)
	}
	until(t, clusters, "blue", func(_ registry.Cluster, err error) bool { return errors.Is(err, registry.ErrNotFound) })
}

func TestOneClusterInTroubleHoldsNobodyUp(t *testing.T) {
	clusters, _ := reconciling(t)
	for _, name := range []string{"blue", "green"} {
		if _, err := clusters.Create(t.Context(), record(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"blue", "green"} {
		until(t, clusters, name, func(c registry.Cluster, err error) bool {
			return err == nil && strings.Contains(c.Status.Message, "the disk is full")
		})
	}
}

func TestAClusterStaysAtThePatchItRuns(t *testing.T) {
	site := Site{Catalog: refusing(t)}
	for running, want := range map[string]string{"": "1.37.2", "1.37.2": "1.37.2", "1.37.1": "1.37.2"} {
		c := record("blue")
		c.Status.KubernetesVersion = running
		if got, err := site.release(c); err != nil || got.Kubernetes != want {
			t.Errorf("runs %q: %s, %v, want %s", running, got.Kubernetes, err, want)
		}
	}
}
