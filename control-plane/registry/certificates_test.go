package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
)

func TestCertificatesAreNotedFromTheBeginningOfANewRegistryOrFromTheFirstLook(t *testing.T) {
	first := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		clusters []string
		want     time.Time
	}{
		"a new registry":                            {nil, time.Time{}},
		"a registry that has clusters already":      {[]string{"kitchen"}, first},
		"a registry that has many clusters already": {[]string{"kitchen", "pantry"}, first},
	} {
		t.Run(name, func(t *testing.T) {
			r, ctx := registrytest.New(t), t.Context()
			create := func(names ...string) {
				for _, cluster := range names {
					if _, err := r.Create(ctx, registry.Cluster{Name: cluster}); err != nil {
						t.Fatal(err)
					}
				}
			}
			create(tt.clusters...)
			for _, now := range []time.Time{first, first.Add(time.Hour)} {
				if since, err := r.CertificatesSince(ctx, now); err != nil || !since.Equal(tt.want) {
					t.Errorf("got %s, %v, want %s", since, err, tt.want)
				}
				create("later" + now.Format("15")) // which changes nothing
			}
		})
	}
}

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
