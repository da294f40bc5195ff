package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ovenbird-dev/ovenbird/packer/node/containerimage"
)

// checkRegistry brings an image of one's own onto the lab's network and runs it.
func checkRegistry(t *testing.T, l *lab, client kubernetes.Interface, node, kubernetesVersion string) {
	archive := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = containerimage.Write(f, []containerimage.Image{{
		Names:      []string{"example.com/team/own:1.0"},
		Entrypoint: []string{"/pause"},
		Files:      []containerimage.File{{Path: "/pause", Source: filepath.Join(l.root, "dist/components/kubernetes", kubernetesVersion, "pause")}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := l.ctl(t, time.Minute, "load-image", archive, "team/own:1.0")
	const image = "registry.lab.internal/team/own:1.0"
	if !strings.Contains(out, image) {
		t.Fatalf("load-image prints %q, want %s", out, image)
	}
	startPod(t, client, &corev1.Pod{
		ObjectMeta: busybox("own", node, "").ObjectMeta,
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: "main", Image: image}},
		},
	})
}
