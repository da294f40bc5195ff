package registry_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
)

func TestAClusterMovesWithEverythingThatBelongsToIt(t *testing.T) {
	from, to, ctx := registrytest.New(t), registrytest.New(t), t.Context()
	for _, name := range []string{"blue", "blue-2"} {
		if _, err := from.Create(ctx, registry.Cluster{Name: name, Status: registry.Status{
			Phase: registry.PhaseActive, Endpoint: "https://10.0.0.10:6443", KubernetesVersion: "1.37.2",
		}}); err != nil {
			t.Fatal(err)
		}
		// More than one transaction holds.
		for i := range 250 {
			entry := registry.AccessEntry{Cluster: name, PrincipalARN: fmt.Sprintf("arn:aws:iam::111122223333:role/r%d", i)}
			if _, err := from.CreateAccessEntry(ctx, entry); err != nil {
				t.Fatal(err)
			}
		}
	}
	saved, err := from.Export(ctx, "blue")
	if err != nil || len(saved.Documents) != 250 {
		t.Fatalf("%d documents, %v, want blue's alone", len(saved.Documents), err)
	}
	if _, err := from.Import(ctx, saved); !errors.Is(err, registry.ErrExists) {
		t.Errorf("over the cluster itself: %v", err)
	}
	if _, err := from.Export(ctx, "green"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a cluster that is not there: %v", err)
	}

	if _, err := to.Create(ctx, registry.Cluster{Name: "red", Port: saved.Cluster.Port}); err != nil {
		t.Fatal(err)
	}
	moved, err := to.Import(ctx, saved)
	if err != nil || moved.Port == saved.Cluster.Port || moved.Port == 0 {
		t.Fatalf("port %d, %v, want one that red does not have", moved.Port, err)
	}
	c, err := to.Get(ctx, "blue")
	if err != nil || c.Status.Phase != registry.PhaseCreating || c.Status.Endpoint != "" || c.Status.KubernetesVersion != "1.37.2" {
		t.Errorf("status %+v, %v, want it to begin again at its version", c.Status, err)
	}
	if entries, err := to.ListAccessEntries(ctx, "blue"); err != nil || len(entries) != 250 {
		t.Errorf("%d access entries, %v", len(entries), err)
	}
	saved.Cluster.Name = "other"
	if _, err := to.Import(ctx, saved); err == nil {
		t.Error("documents of another cluster were accepted")
	}
}
