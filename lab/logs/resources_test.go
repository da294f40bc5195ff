package logs

import (
	"errors"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func TestAStackMakesChangesAndDeletesAGroup(t *testing.T) {
	store := &Store{Dir: t.TempDir(), Now: (&world{}).clock}
	if err := store.Open(); err != nil {
		t.Fatal(err)
	}
	kind := Service{Plan: vpc.Default(), Store: store}.ResourceTypes()[0]
	ctx, h := t.Context(), kind.Handler
	r := resource.Request{Token: "1", Name: "stack-Logs-AbCdEfGhIjKl", Tags: map[string]string{"aws:cloudformation:stack-name": "stack"}, Properties: map[string]any{
		"RetentionInDays": "30", "Tags": []any{map[string]any{"Key": "a", "Value": "b"}}, "DeletionProtectionEnabled": true,
	}}
	var id string
	for range 2 {
		var err error
		if id, err = h.Create(ctx, r); err != nil || id != r.Name {
			t.Fatal(id, err)
		}
	}
	if g, err := store.get("us-west-2", id); err != nil || g.Retention != 30 || len(g.Tags) != 2 {
		t.Errorf("%+v, %v", g, err)
	}
	if arn, err := h.Attribute(ctx, id, "Arn"); err != nil || arn != "arn:aws:logs:us-west-2:111122223333:log-group:"+id+":*" {
		t.Errorf("%v, %v", arn, err)
	}
	if err := h.Delete(ctx, id, r); err == nil || !strings.Contains(err.Error(), "protected") {
		t.Errorf("a protected group: %v", err)
	}
	other := resource.Request{Token: "2", Name: "other", Properties: map[string]any{"LogGroupName": id}}
	if _, err := h.Create(ctx, other); err == nil || !strings.Contains(err.Error(), "AlreadyExists") {
		t.Errorf("a name that is taken: %v", err)
	}
	r.Token, r.Properties = "3", map[string]any{}
	if err := h.Update(ctx, id, r); err != nil {
		t.Fatal(err)
	}
	if g, err := store.get("us-west-2", id); err != nil || g.Retention != 0 || g.Protected || len(g.Tags) != 1 {
		t.Errorf("%+v, %v", g, err)
	}
	for range 2 {
		if err := h.Delete(ctx, id, r); err != nil {
			t.Error(err)
		}
	}
	if err := h.Update(ctx, id, r); !errors.Is(err, resource.ErrNotFound) {
		t.Errorf("a deleted group is changed: %v", err)
	}
	if _, err := h.Attribute(ctx, id, "Arn"); !errors.Is(err, resource.ErrNotFound) {
		t.Errorf("a deleted group has an ARN: %v", err)
	}
	for _, properties := range []map[string]any{
		{"RetentionInDays": "31"}, {"RetentionInDays": 0}, {"LogGroupName": "a b"}, {"LogGroupName": ""}, {"LogGroupClass": "DELIVERY"}, {"Colour": "red"},
	} {
		r.Properties = properties
		if id, err := h.Create(ctx, r); err == nil {
			t.Errorf("%v made %s", properties, id)
		}
	}
}
