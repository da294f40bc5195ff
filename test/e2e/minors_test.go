package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEveryMinor brings up a cluster of each earlier Kubernetes minor that components/ pins,
// with a node of its own image. Building them takes long, so make e2e-full does.
func TestEveryMinor(t *testing.T) {
	if !full() {
		t.Skip("make e2e-full tries the earlier minors")
	}
	root := repository(t)
	newest := pinnedVersions(t, &lab{root: root})
	kubelets, err := filepath.Glob(filepath.Join(root, "dist/components/kubernetes/*/kubelet"))
	if err != nil || len(kubelets) < 2 {
		t.Fatalf("no earlier minor is built: run scripts/components --all (%v)", err)
	}
	for _, kubelet := range kubelets {
		version := filepath.Base(filepath.Dir(kubelet))
		if version == newest["kubernetes"] {
			continue // TestOneMachine
		}
		t.Run(version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			image := filepath.Join(t.TempDir(), "disk.raw")
			minor := version[:strings.LastIndex(version, ".")]
			settings := []string{"OVENBIRD_IMAGE=" + image, "OVENBIRD_VERSION=" + minor}
			(&lab{root: root, env: settings}).run(t, 10*time.Minute, "scripts/image", version)

			l := startLab(t, settings...)
			nodes, err := l.client(t).CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			if err != nil || len(nodes.Items) != 1 {
				t.Fatalf("want one node, got %d (%v)", len(nodes.Items), err)
			}
			pinned := pinnedVersions(t, l)
			pinned["kubernetes"] = version
			checkNode(t, nodes.Items[0], pinned)
			server, err := l.client(t).Discovery().ServerVersion()
			if err != nil || server.GitVersion != "v"+version {
				t.Errorf("the API server is %v (%v), want v%s", server, err, version)
			}
		})
	}
}
