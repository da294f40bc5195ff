package cluster

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster/addons"
)

func ensurePorts(t *testing.T, path string, idle bool, taken map[uint16]bool) map[string]uint16 {
	t.Helper()
	ports, err := EnsurePorts(path, []string{"a", "b"}, idle, taken)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

func TestPortsAreChosenOnceAndDiffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	first := ensurePorts(t, path, true, nil)
	if first["a"] == first["b"] || first["a"] < firstLocalPort || first["a"] > lastLocalPort {
		t.Errorf("ports %v", first)
	}
	if second := ensurePorts(t, path, true, nil); !maps.Equal(first, second) {
		t.Errorf("ports %v, then %v", first, second)
	}
}

func TestAPortThatSomebodyElseTookIsChosenAgainWhenNothingRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	first := ensurePorts(t, path, true, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(int(first["a"])))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if kept := ensurePorts(t, path, false, nil); !maps.Equal(first, kept) {
		t.Errorf("the owner's own listener lost its port: %v, then %v", first, kept)
	}
	if moved := ensurePorts(t, path, true, nil); moved["a"] == first["a"] || moved["b"] != first["b"] {
		t.Errorf("ports %v, then %v, want another a", first, moved)
	}
}

func TestPortsOfOtherClustersAreAvoided(t *testing.T) {
	state := t.TempDir()
	for _, name := range []string{"blue", "green"} {
		if err := os.MkdirAll(Dir(state, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	blue := ensurePorts(t, filepath.Join(Dir(state, "blue"), portsFile), true, nil)
	taken := portsOfOthers(state, "green")
	if !taken[blue["a"]] || !taken[blue["b"]] || len(portsOfOthers(state, "blue")) != 0 {
		t.Errorf("taken %v, blue has %v", taken, blue)
	}
	all := map[uint16]bool{}
	for port := range uint16(lastLocalPort - firstLocalPort + 1) {
		all[firstLocalPort+port] = true
	}
	if _, err := EnsurePorts(filepath.Join(state, "x"), []string{"a"}, true, all); err == nil {
		t.Error("a port was found where all are taken")
	}
}

func TestObjectsAreWrittenWhereTheAPIServerKeepsThem(t *testing.T) {
	objects, err := addons.Render(addons.Values{})
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, object := range objects {
		paths[apiPath(object)] = true
	}
	for _, want := range []string{
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/ovenbird:coredns",
		"/api/v1/namespaces/kube-system/configmaps/coredns",
		"/api/v1/namespaces/kube-system/services/kube-dns",
		"/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy",
	} {
		if !paths[want] {
			t.Errorf("nothing is written to %s: %v", want, paths)
		}
	}
}
