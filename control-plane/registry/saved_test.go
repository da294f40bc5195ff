package registry_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

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
	if c, err := to.Get(ctx, "blue"); err != nil || c.Status.Phase != registry.PhaseRestoring {
		t.Errorf("status %+v, %v, want it left alone until its files are there", c.Status, err)
	}
	if _, err := to.FinishImport(ctx, moved); err != nil {
		t.Fatal(err)
	}
	c, err := to.Get(ctx, "blue")
	if err != nil || c.Status.Phase != registry.PhaseCreating || c.Status.Message != "" || c.Status.Endpoint != "" || c.Status.KubernetesVersion != "1.37.2" {
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

func TestAnImportThatIsDeletedMeanwhileDoesNotEnd(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	saved := registry.Saved{Cluster: registry.Cluster{Name: "blue", Port: 6443, CreatedAt: time.Unix(1e9, 0)}}
	imported, err := r.Import(ctx, saved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(ctx, registry.Cluster{Name: "blue"}); !errors.Is(err, registry.ErrExists) {
		t.Errorf("the name is free: %v", err)
	}
	deleting, err := r.Change(ctx, "blue", func(c *registry.Cluster) error { c.Deleting = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.FinishImport(ctx, imported); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("while it is deleted: %v", err)
	}
	if err := r.Delete(ctx, deleting); err != nil {
		t.Fatal(err)
	}
	if _, err := r.FinishImport(ctx, imported); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("when it is gone: %v", err)
	}
	if _, err := r.Create(ctx, registry.Cluster{Name: "blue"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.FinishImport(ctx, imported); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("when there is another: %v", err)
	}
}

func TestWhichInstanceHasACertificateIsNotSaved(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	create(t, r, "blue")
	for fingerprint, instance := range map[string]string{"aa": "i-0123456789abcdef0", "bb": "1"} {
		if err := r.RecordCertificate(ctx, "blue", fingerprint, instance, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if saved, err := r.Export(ctx, "blue"); err != nil || len(saved.Documents) != 0 {
		t.Errorf("documents %v, %v, want none", saved.Documents, err)
	}
}
