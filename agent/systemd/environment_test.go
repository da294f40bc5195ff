package systemd_test

import (
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs/rootfstest"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

func TestEnvironmentFilesAreTheGoldenOnes(t *testing.T) {
	rootfstest.Golden(t, "all", systemd.EnvironmentFiles(nodeconfig.Environment{
		"default":            {"HTTPS_PROXY": "http://proxy:3128", "AWS_ENDPOINT_URL_STS": "https://aws.lab.internal/", "ODD": `100% "a" \b`},
		"systemd_kubelet":    {"K": "1"},
		"systemd_containerd": {"C": "2"},
	}))
	rootfstest.Golden(t, "kubelet", systemd.EnvironmentFiles(nodeconfig.Environment{"systemd_kubelet": {"K": "1"}}))
}

func TestNoEnvironmentIsNoFiles(t *testing.T) {
	files := systemd.EnvironmentFiles(nil)
	if len(files) != 3 {
		t.Errorf("got %d files: what is left of an earlier environment must go", len(files))
	}
	for _, file := range files {
		if file.Data != nil {
			t.Errorf("%s has content", file.Path)
		}
	}
}
