package e2e

import (
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// secondVolume is the size of the second node's volume in GiB, which is more than the
// image's.
const secondVolume = 9

// checkRoot looks at the second node's root as a privileged pod sees it: verified where
// nothing may change, writable where nodes are, and grown to the volume.
func checkRoot(t *testing.T, l *lab, client kubernetes.Interface, node string) {
	pod := busybox("root", node, "sleep 3600")
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	pod.Spec.Volumes = []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "host", MountPath: "/host"}}
	startPod(t, client, pod)
	for _, test := range []struct {
		name, command string
		writable      bool
	}{
		{"programs", "touch /host/usr/bin/kubelet", false},
		{"a baked container image", "touch /host/usr/lib/ovenbird/layers/1", false},
		{"where DaemonSets put CNI plugins", "touch /host/opt/cni/bin/test", true},
		{"what the agent renders", "touch /host/etc/kubernetes/test", true},
	} {
		out, err := l.inPod(t, "root", "sh", "-c", test.command)
		if (err == nil) != test.writable {
			t.Errorf("%s: `%s` says %q, %v", test.name, test.command, out, err)
		}
	}
	out, err := l.inPod(t, "root", "sh", "-c", "df -k /host/var | tail -n 1")
	fields := strings.Fields(out)
	if err != nil || len(fields) < 2 {
		t.Fatalf("df /var: %q, %v", out, err)
	}
	const most = (secondVolume - 1) << 20 // KiB
	if size, err := strconv.Atoi(fields[1]); err != nil || size < most {
		t.Errorf("/var has %s KiB on a volume of %d GiB, want at least %d", fields[1], secondVolume, most)
	}
}

// checkUserNamespace runs a pod whose root is nobody on the node. The files of a baked
// image belong to its root all the same.
func checkUserNamespace(t *testing.T, l *lab, client kubernetes.Interface, node string) {
	pod := busybox("userns", node, "sleep 3600")
	pod.Spec.HostUsers = new(false)
	startPod(t, client, pod)
	out, err := l.inPod(t, "userns", "sh", "-c", "stat -c %u /bin/busybox; awk '{ print $2; exit }' /proc/self/uid_map")
	fields := strings.Fields(out)
	if err != nil || len(fields) != 2 || fields[0] != "0" || fields[1] == "0" {
		t.Errorf("owner of a file and the host's id of the pod's root: got %q, %v, want 0 and not 0", fields, err)
	}
}
