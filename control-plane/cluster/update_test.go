package cluster

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

func TestAnUpdateThatNeverRunsFailsAndLeavesTheSettingsOfBefore(t *testing.T) {
	var passed atomic.Int64
	clusters, _ := reconcilingAt(t, func() time.Time { return time.Now().Add(time.Duration(passed.Load())) })
	c := record("blue")
	c.Status.Phase = registry.PhaseActive
	if _, err := clusters.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	started, err := clusters.StartUpdate(t.Context(), registry.Update{ID: "1", Cluster: "blue"}, func(c *registry.Cluster) error {
		c.EnabledLogs = []string{registry.LogAudit}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, clusters, "blue", func(c registry.Cluster, err error) bool {
		return err == nil && strings.Contains(c.Status.Message, "the disk is full")
	})
	if c, err := clusters.Get(t.Context(), "blue"); err != nil || c.UpdateID != started.ID {
		t.Errorf("before its time is over: %+v, %v", c, err)
	}
	passed.Store(int64(updateLimit))
	until(t, clusters, "blue", func(c registry.Cluster, err error) bool { return err == nil && c.UpdateID == "" })
	failed, err := clusters.GetUpdate(t.Context(), "blue", "1")
	if err != nil || failed.Status != registry.UpdateFailed || len(failed.Errors) != 1 || !strings.Contains(failed.Errors[0].Message, "etcd is down: exit status 1: the disk is full") {
		t.Errorf("update: %+v, %v", failed, err)
	}
	if c, err := clusters.Get(t.Context(), "blue"); err != nil || len(c.EnabledLogs) != 0 || c.Status.Phase != registry.PhaseActive {
		t.Errorf("cluster: %+v, %v", c, err)
	}
}
