package access

import (
	"maps"
	"slices"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

func TestEachAssociationIsAGroup(t *testing.T) {
	got := Groups([]registry.AssociatedPolicy{
		{ARN: registry.ViewPolicy},
		{ARN: registry.EditPolicy, Namespaces: []string{"team-*", "sandbox", "sandbox"}},
		{ARN: registry.AdminPolicy, Namespaces: []string{}}, // in no namespace
	})
	want := []string{
		"ovenbird:policy:AmazonEKSEditPolicy:sandbox",
		"ovenbird:policy:AmazonEKSEditPolicy:team-*",
		"ovenbird:policy:AmazonEKSViewPolicy",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAPatternMayBeginOrEndWithAStar(t *testing.T) {
	tests := []struct {
		pattern, namespace string
		want               bool
	}{
		{"team", "team", true},
		{"team", "team-a", false},
		{"team-*", "team-a", true},
		{"team-*", "team-", true},
		{"team-*", "my-team-a", false},
		{"*-prod", "team-prod", true},
		{"*-prod", "team-prod-2", false},
		{"*team*", "my-team-a", true},
		{"*", "kube-system", true},
		{"te*m", "team", false},
	}
	for _, tt := range tests {
		if got := matches(tt.pattern, tt.namespace); got != tt.want {
			t.Errorf("%q for %q: got %t", tt.pattern, tt.namespace, got)
		}
	}
}

func TestBindingsAreInTheNamespacesThatExist(t *testing.T) {
	entries := []registry.AccessEntry{
		{Policies: []registry.AssociatedPolicy{{ARN: registry.EditPolicy, Namespaces: []string{"team-*"}}, {ARN: registry.ViewPolicy}}},
		{Policies: []registry.AssociatedPolicy{{ARN: registry.EditPolicy, Namespaces: []string{"team-a", "none"}}}},
		{Policies: []registry.AssociatedPolicy{{ARN: registry.ViewPolicy, Namespaces: []string{"team-a"}}}},
	}
	got := wanted(entries, []string{"default", "team-a", "team-b"})
	const edit, view = "ovenbird:policy:AmazonEKSEditPolicy", "ovenbird:policy:AmazonEKSViewPolicy"
	want := map[binding][]string{
		{"team-a", edit}: {edit + ":team-*", edit + ":team-a"},
		{"team-b", edit}: {edit + ":team-*"},
		{"team-a", view}: {view + ":team-a"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
}
