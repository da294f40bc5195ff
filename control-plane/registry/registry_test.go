package registry_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
)

const admin = "arn:aws:iam::111122223333:user/admin"

func create(t *testing.T, r *registry.Registry, name string) registry.Cluster {
	t.Helper()
	c, err := r.Create(t.Context(), registry.Cluster{Name: name, Version: "1.37"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAClusterIsReadAsItWasWritten(t *testing.T) {
	r := registrytest.New(t)
	want := registry.Cluster{
		Name: "kitchen", ARN: "arn:aws:eks:us-west-2:111122223333:cluster/kitchen", Version: "1.37", CreatedBy: admin,
		CreatedAt: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), SubnetIDs: []string{"subnet-1", "subnet-2"},
		Tags:   map[string]string{"a": "b"},
		Status: registry.Status{Phase: registry.PhaseCreating, CertificateAuthority: []byte("PEM\n")},
	}
	created, err := r.Create(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if created.Port != 6443 || created.Revision == 0 {
		t.Errorf("port %d revision %d, want 6443 and not 0", created.Port, created.Revision)
	}
	want.Port, want.Revision = created.Port, created.Revision
	if got, err := r.Get(t.Context(), "kitchen"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := r.Create(t.Context(), registry.Cluster{Name: "kitchen"}); !errors.Is(err, registry.ErrExists) {
		t.Errorf("second create: got %v, want ErrExists", err)
	}
	if _, err := r.Get(t.Context(), "kitch"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("get of another name: got %v, want ErrNotFound", err)
	}
}

func TestAWriteOverSomebodyElsesIsRefused(t *testing.T) {
	r := registrytest.New(t)
	first := create(t, r, "kitchen")
	second := first

	first.Deleting = true
	updated, err := r.Update(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	second.Status.Phase = registry.PhaseActive
	if _, err := r.Update(t.Context(), second); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("update: got %v, want ErrConflict", err)
	}
	if err := r.Delete(t.Context(), second); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("delete: got %v, want ErrConflict", err)
	}
	if err := r.Delete(t.Context(), updated); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(t.Context(), updated); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("update after delete: got %v, want ErrNotFound", err)
	}
	if err := r.Delete(t.Context(), updated); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("second delete: got %v, want ErrNotFound", err)
	}
	if _, err := r.Update(t.Context(), registry.Cluster{Name: "never"}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("update of what never was: got %v, want ErrNotFound", err)
	}
}

func TestChangesFromManySidesAllArrive(t *testing.T) {
	r := registrytest.New(t)
	create(t, r, "kitchen")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := r.Change(t.Context(), "kitchen", func(c *registry.Cluster) error {
				c.SubnetIDs = append(c.SubnetIDs, fmt.Sprint(i))
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if c, err := r.Get(t.Context(), "kitchen"); err != nil || len(c.SubnetIDs) != 8 {
		t.Errorf("got %v, %v, want 8 changes", c.SubnetIDs, err)
	}
	refused := errors.New("no")
	if _, err := r.Change(t.Context(), "kitchen", func(*registry.Cluster) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, want the error of the change", err)
	}
}

func TestPortsAreUniqueAndComeBack(t *testing.T) {
	r := registrytest.New(t)
	var mu sync.Mutex
	var ports []int
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			c, err := r.Create(t.Context(), registry.Cluster{Name: fmt.Sprintf("c%d", i)})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			ports = append(ports, c.Port)
		})
	}
	wg.Wait()
	slices.Sort(ports)
	if want := []int{6443, 6444, 6445, 6446, 6447, 6448}; !slices.Equal(ports, want) {
		t.Errorf("got %v, want %v", ports, want)
	}
	all, err := r.List(t.Context())
	if err != nil || len(all) != 6 || all[0].Name != "c0" || all[5].Name != "c5" {
		t.Fatalf("list: got %v, %v", all, err)
	}
	if err := r.Delete(t.Context(), all[2]); err != nil {
		t.Fatal(err)
	}
	if c := create(t, r, "again"); c.Port != all[2].Port {
		t.Errorf("got port %d, want %d, which is free again", c.Port, all[2].Port)
	}
}

func TestAccessEntriesLiveAndDieWithTheirCluster(t *testing.T) {
	r, ctx := registrytest.New(t), t.Context()
	const role = "arn:aws:iam::111122223333:role/team/path/node"
	c, err := r.Create(ctx, registry.Cluster{Name: "kitchen"}, registry.AccessEntry{PrincipalARN: admin, Type: registry.TypeStandard})
	if err != nil {
		t.Fatal(err)
	}
	create(t, r, "kitchen-2") // whose key has the first one's as a prefix
	if _, err := r.CreateAccessEntry(ctx, registry.AccessEntry{Cluster: "kitchen-2", PrincipalARN: admin}); err != nil {
		t.Fatal(err)
	}
	entry, err := r.CreateAccessEntry(ctx, registry.AccessEntry{Cluster: "kitchen", PrincipalARN: role, Type: registry.TypeEC2Linux})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.GetAccessEntry(ctx, "kitchen", "arn:aws:iam::111122223333:role/node")
	if err != nil || !reflect.DeepEqual(got, entry) {
		t.Errorf("by the ARN without a path: got %+v, %v, want %+v", got, err, entry)
	}
	if _, err := r.CreateAccessEntry(ctx, registry.AccessEntry{Cluster: "kitchen", PrincipalARN: role}); !errors.Is(err, registry.ErrExists) {
		t.Errorf("second create: got %v, want ErrExists", err)
	}
	if _, err := r.CreateAccessEntry(ctx, registry.AccessEntry{Cluster: "nowhere", PrincipalARN: role}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("create without cluster: got %v, want ErrNotFound", err)
	}
	if entries, err := r.ListAccessEntries(ctx, "kitchen"); err != nil || len(entries) != 2 {
		t.Errorf("list: got %v, %v, want two", entries, err)
	}
	entry.Groups = []string{"bakers"}
	if _, err := r.UpdateAccessEntry(ctx, entry); err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateAccessEntry(ctx, entry); !errors.Is(err, registry.ErrConflict) {
		t.Errorf("update of an old read: got %v, want ErrConflict", err)
	}
	if err := r.DeleteAccessEntry(ctx, "kitchen", role); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteAccessEntry(ctx, "kitchen", role); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("second delete: got %v, want ErrNotFound", err)
	}
	if err := r.Delete(ctx, c); err != nil {
		t.Fatal(err)
	}
	if entries, err := r.ListAccessEntries(ctx, "kitchen"); err != nil || len(entries) != 0 {
		t.Errorf("after the cluster: got %v, %v, want none", entries, err)
	}
	if entries, err := r.ListAccessEntries(ctx, "kitchen-2"); err != nil || len(entries) != 1 {
		t.Errorf("of the other cluster: got %v, %v, want one", entries, err)
	}
}

func TestWatchTellsWhatIsThereAndWhatChanges(t *testing.T) {
	r := registrytest.New(t)
	first := create(t, r, "first")
	ctx, cancel := context.WithCancel(t.Context())
	names := r.Watch(ctx)
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-names:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing came, want %q", want)
		}
	}
	expect("first")
	create(t, r, "second")
	expect("second")

	// Nobody reads while the first changes many times: one name is enough.
	for range 20 {
		var err error
		if first, err = r.Update(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	expect("first")
	if err := r.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	create(t, r, "third")
	seen := map[string]bool{}
	for !seen["third"] {
		select {
		case name := <-names:
			seen[name] = true
		case <-time.After(20 * time.Second):
			t.Fatal("the third never came")
		}
	}
	if !seen["first"] {
		t.Error("the removal of the first was not told")
	}
	cancel()
	for range names { // ends when the channel closes
	}
}

func TestTheEntriesOfOneClusterAreWatched(t *testing.T) {
	r := registrytest.New(t)
	create(t, r, "kitchen")
	create(t, r, "kitchen-2") // whose entries have the first one's prefix but for the slash
	changed := r.WatchAccessEntries(t.Context(), "kitchen")
	told := func(doing string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not told", doing)
		}
	}
	const jane = "arn:aws:iam::111122223333:user/jane"
	entry, err := r.CreateAccessEntry(t.Context(), registry.AccessEntry{Cluster: "kitchen", PrincipalARN: jane})
	if err != nil {
		t.Fatal(err)
	}
	told("a create")
	entry.Policies = []registry.AssociatedPolicy{{ARN: registry.ViewPolicy}}
	if _, err := r.UpdateAccessEntry(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	told("an update")
	if _, err := r.CreateAccessEntry(t.Context(), registry.AccessEntry{Cluster: "kitchen-2", PrincipalARN: jane}); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteAccessEntry(t.Context(), "kitchen", jane); err != nil {
		t.Fatal(err)
	}
	told("a delete")
	select {
	case key := <-changed:
		t.Errorf("something more came: %s", key)
	default:
	}
}
