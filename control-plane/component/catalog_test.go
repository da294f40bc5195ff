package component

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shelf makes a components directory with the named files.
func shelf(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, file := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func kubernetes(version string) []string {
	return []string{"kubernetes/" + version + "/kube-apiserver", "kubernetes/" + version + "/kube-controller-manager", "kubernetes/" + version + "/kube-scheduler"}
}

func TestTheCatalogOffersTheNewestPatchOfEachCompleteMinor(t *testing.T) {
	files := slices.Concat(kubernetes("1.37.2"), kubernetes("1.37.10"), kubernetes("1.36.3"), []string{
		"kubernetes/1.38.0/kube-apiserver", "kubernetes/junk/kube-apiserver",
		"etcd/3.7.3/etcd", "etcd/3.7.12/etcd", "coredns/1.15.0/coredns",
	})
	catalog, err := OpenCatalog(shelf(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	minors, err := catalog.Minors()
	if err != nil || !slices.Equal(minors, []string{"1.37", "1.36"}) {
		t.Errorf("minors %v, %v", minors, err)
	}
	release, err := catalog.Newest("1.37")
	if err != nil || release.Kubernetes != "1.37.10" || release.Etcd != "3.7.12" || release.CoreDNS != "1.15.0" {
		t.Errorf("newest 1.37 is %+v, %v", release, err)
	}
	if release, err = catalog.Exactly("1.37.2"); err != nil || release.Kubernetes != "1.37.2" {
		t.Errorf("exactly 1.37.2 is %+v, %v", release, err)
	}
	for _, wanted := range []string{"1.38", "1.3", "", "1.37.2"} {
		if _, err := catalog.Newest(wanted); !errors.Is(err, ErrNotOffered) {
			t.Errorf("newest %q: %v, want ErrNotOffered", wanted, err)
		}
	}
}

func TestAnIncompleteCatalogSaysWhatToRun(t *testing.T) {
	tests := map[string][]string{
		"there is nothing":   nil,
		"a program is gone":  {"kubernetes/1.37.2/kube-apiserver"},
		"etcd is missing":    append(kubernetes("1.37.2"), "coredns/1.15.0/coredns"),
		"CoreDNS is missing": append(kubernetes("1.37.2"), "etcd/3.7.3/etcd"),
	}
	for name, files := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := OpenCatalog(shelf(t, files...))
			if err == nil || !strings.Contains(err.Error(), "make components") {
				t.Errorf("err = %v", err)
			}
		})
	}
}
