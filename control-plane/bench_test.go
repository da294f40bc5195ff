package main

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

// BenchmarkCreateClusterToActive holds CreateCluster against a bare start of the same
// programs: go test ./control-plane -run '^$' -bench . -benchtime 5x
func BenchmarkCreateClusterToActive(b *testing.B) {
	components, err := filepath.Abs("../dist/components")
	if err != nil {
		b.Fatal(err)
	}
	script, err := filepath.Abs("../scripts/bench-bare-control-plane")
	if err != nil {
		b.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	site, err := trial.NewSite(binary, components, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer site.Close()
	site.Env = []string{asOvenbird + "=1"}
	service, err := site.Serve(b.Context(), os.Stderr)
	if err != nil {
		b.Fatal(err)
	}
	runs := 0
	for b.Loop() {
		runs++
	}
	created, bare, err := site.Compare(b.Context(), script, runs, os.Stderr)
	if err != nil {
		b.Error(err)
	}
	if output, err := site.Command(b.Context(), "stop", "--state-dir", site.StateDir()).CombinedOutput(); err != nil {
		b.Errorf("%s", output)
	}
	_ = service.Signal(syscall.SIGKILL)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(created), "s/create")
	b.ReportMetric(median(bare), "s/bare")
	b.ReportMetric(median(created)/median(bare), "ratio")
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
