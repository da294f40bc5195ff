package registry_test

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
)

func auditing(c *registry.Cluster) error {
	c.EnabledLogs = []string{"audit"}
	return nil
}

func TestAnUpdateIsWrittenWithTheClusterAndFinishedWithIt(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	create(t, r, "kitchen")
	create(t, r, "kitchen-2") // whose keys have the first one's as a prefix
	first, err := r.StartUpdate(ctx, registry.Update{ID: "1", Cluster: "kitchen", Type: "LoggingUpdate"}, auditing)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Get(ctx, "kitchen"); err != nil || c.UpdateID != "1" || !slices.Equal(c.EnabledLogs, []string{"audit"}) {
		t.Errorf("started: %+v, %v", c, err)
	}
	if got, err := r.GetUpdate(ctx, "kitchen", "1"); err != nil || got.Status != registry.UpdateInProgress || !reflect.DeepEqual(got, first) {
		t.Errorf("got %+v, %v, want %+v", got, err, first)
	}
	var busy *registry.InProgressError
	if _, err := r.StartUpdate(ctx, registry.Update{ID: "2", Cluster: "kitchen"}, auditing); !errors.As(err, &busy) || busy.ID != "1" {
		t.Errorf("a second update: got %v", err)
	}
	if err := r.FinishUpdate(ctx, "kitchen", "2"); err != nil {
		t.Errorf("end of an update that is not in progress: %v", err)
	}
	for range 2 { // the second has nothing to do
		if err := r.FinishUpdate(ctx, "kitchen", "1"); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Get(ctx, "kitchen")
	if err != nil || c.UpdateID != "" || !slices.Equal(c.EnabledLogs, []string{"audit"}) {
		t.Errorf("finished: %+v, %v", c, err)
	}
	if _, err := r.StartUpdate(ctx, registry.Update{ID: "1", Cluster: "kitchen"}, auditing); !errors.Is(err, registry.ErrExists) {
		t.Errorf("the same ID again: got %v, want ErrExists", err)
	}
	if _, err := r.StartUpdate(ctx, registry.Update{ID: "1", Cluster: "kitchen-2"}, auditing); err != nil {
		t.Fatal(err)
	}
	if all, err := r.ListUpdates(ctx, "kitchen"); err != nil || len(all) != 1 || all[0].Status != registry.UpdateSuccessful {
		t.Errorf("list: %+v, %v", all, err)
	}
	if err := r.Delete(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := r.GetUpdate(ctx, "kitchen", "1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("after the cluster: got %v, want ErrNotFound", err)
	}
	if all, err := r.ListUpdates(ctx, "kitchen-2"); err != nil || len(all) != 1 {
		t.Errorf("of the other cluster: %+v, %v", all, err)
	}
}

func TestAFailedUpdateGoesBackToTheSettingsOfBefore(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	before, err := r.Create(ctx, registry.Cluster{Name: "kitchen", AuthenticationMode: registry.ModeAPIAndConfigMap, EnabledLogs: []string{"api"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.StartUpdate(ctx, registry.Update{ID: "1", Cluster: "kitchen"}, func(c *registry.Cluster) error {
		c.AuthenticationMode, c.EnabledLogs, c.DeletionProtection = registry.ModeAPI, nil, true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// What others write meanwhile stays.
	if _, err := r.Change(ctx, "kitchen", func(c *registry.Cluster) error { c.Status.Message = "down"; return nil }); err != nil {
		t.Fatal(err)
	}
	why := registry.UpdateError{Code: "Unknown", Message: "the disk is full", ResourceIDs: []string{"kitchen"}}
	if err := r.FinishUpdate(ctx, "kitchen", "1", why); err != nil {
		t.Fatal(err)
	}
	c, err := r.Get(ctx, "kitchen")
	before.Status.Message, before.Revision = "down", c.Revision
	if err != nil || !reflect.DeepEqual(c, before) {
		t.Errorf("got %+v, %v, want %+v", c, err, before)
	}
	if u, err := r.GetUpdate(ctx, "kitchen", "1"); err != nil || u.Status != registry.UpdateFailed || !reflect.DeepEqual(u.Errors, []registry.UpdateError{why}) {
		t.Errorf("update: %+v, %v", u, err)
	}
}

func TestAClusterDoesNotWaitForAnUpdateWithoutARecord(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	if _, err := r.Create(ctx, registry.Cluster{Name: "kitchen", UpdateID: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.FinishUpdate(ctx, "kitchen", "1"); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Get(ctx, "kitchen"); err != nil || c.UpdateID != "" {
		t.Errorf("update %q, %v, want none", c.UpdateID, err)
	}
}

func TestOfManyUpdatesAtOnceOneStarts(t *testing.T) {
	r := registrytest.New(t)
	create(t, r, "kitchen")
	var wg sync.WaitGroup
	results := make(chan error, 6)
	for i := range cap(results) {
		wg.Go(func() {
			_, err := r.StartUpdate(t.Context(), registry.Update{ID: string(rune('a' + i)), Cluster: "kitchen"}, auditing)
			results <- err
		})
	}
	wg.Wait()
	started := 0
	for range cap(results) {
		var busy *registry.InProgressError
		if err := <-results; err == nil {
			started++
		} else if !errors.As(err, &busy) {
			t.Error(err)
		}
	}
	if all, err := r.ListUpdates(t.Context(), "kitchen"); started != 1 || err != nil || len(all) != 1 {
		t.Errorf("started %d, recorded %v, %v, want one", started, all, err)
	}
	refused := errors.New("no")
	create(t, r, "pantry")
	if _, err := r.StartUpdate(t.Context(), registry.Update{ID: "1", Cluster: "pantry"}, func(*registry.Cluster) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, want the error of the change", err)
	}
}
