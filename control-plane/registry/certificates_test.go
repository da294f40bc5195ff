package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
)

func TestACertificateIsKnownAsLongAsItHolds(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	if _, err := r.CertificateInstance(ctx, "kitchen", "aa"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("before: %v, want ErrNotFound", err)
	}
	for _, instance := range []string{"i-1", "i-2"} { // the first word counts
		if err := r.RecordCertificate(ctx, "kitchen", "aa", instance, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.CertificateInstance(ctx, "kitchen", "aa"); got != "i-1" {
		t.Errorf("got %q, %v, want i-1", got, err)
	}
	if _, err := r.CertificateInstance(ctx, "pantry", "aa"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("in another cluster: %v, want ErrNotFound", err)
	}
	if err := r.RecordCertificate(ctx, "kitchen", "bb", "i-1", time.Second); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second) // etcd rounds a lease up
	for {
		if _, err := r.CertificateInstance(ctx, "kitchen", "bb"); errors.Is(err, registry.ErrNotFound) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("still known after its end")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
