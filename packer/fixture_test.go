package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// ociArchive writes an archive with an image of two layers, as skopeo and buildx do.
func ociArchive(t *testing.T, file, reference string) {
	t.Helper()
	image, err := random.Image(64, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	dir, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
	if err := dir.AppendImage(image, layout.WithAnnotations(names)); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("tar", "-C", string(dir), "-cf", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, said)
	}
}

// realNode is the fields of ovenbird-node with the components of this checkout and an
// agent built from it.
func realNode(t *testing.T) string {
	t.Helper()
	components, err := filepath.Abs("../dist/components")
	if err != nil {
		t.Fatal(err)
	}
	versions, _ := filepath.Glob(filepath.Join(components, "kubernetes/*"))
	if len(versions) == 0 {
		t.Skip("there are no components; run make components")
	}
	agent := filepath.Join(t.TempDir(), "ovenbird-agent")
	build := exec.Command("go", "build", "-o", agent, "../agent")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, said)
	}
	return fmt.Sprintf(`kubernetes_version = %q
    components_dir     = %q
    agent_path         = %q`, filepath.Base(versions[len(versions)-1]), components, agent)
}
