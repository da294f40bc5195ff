package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/release"
	"github.com/ovenbird-dev/ovenbird/test/bench/naive"
)

// bench is a lab of its own, with a control plane and a cluster.
type bench struct {
	dir  string
	name string
}

// boot is what one boot took.
type boot struct {
	seconds, megabytes, operations float64
}

// measureBoot boots the image and the naive one in turn, each time with nothing of its
// disk in the machine's memory, until the node is Ready.
func measureBoot(ctx context.Context) (entries []Entry, err error) {
	dir, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := bench{dir: dir, name: fmt.Sprintf("ob-bench-%d", os.Getpid())}
	defer func() { err = errors.Join(err, b.script(context.WithoutCancel(ctx), nil, "scripts/down")) }()
	if err := b.script(ctx, nil, "scripts/up"); err != nil {
		return nil, err
	}
	images, sizes, err := b.images(ctx)
	if err != nil {
		return nil, err
	}
	var boots [2][]boot
	for run := range bootRuns {
		for n, image := range images {
			measured, err := b.boot(ctx, image)
			if err != nil {
				return nil, err
			}
			boots[n] = append(boots[n], measured)
			fmt.Fprintf(os.Stderr, "run %d, %s image: Ready after %.1f s, %.1f MB in %.0f reads\n", run+1, []string{"ovenbird", "naive"}[n],
				measured.seconds, measured.megabytes, measured.operations)
		}
	}
	pick := func(of func(boot) float64) (series [2][]float64) {
		for n := range boots {
			for _, b := range boots[n] {
				series[n] = append(series[n], of(b))
			}
		}
		return series
	}
	seconds := pick(func(b boot) float64 { return b.seconds })
	megabytes := pick(func(b boot) float64 { return b.megabytes })
	operations := pick(func(b boot) float64 { return b.operations })
	const against = "naive image"
	return []Entry{
		compared("RunInstances to Ready", "s", against, seconds[0], seconds[1]),
		compared("read until Ready", "MB", against, megabytes[0], megabytes[1]),
		compared("reads until Ready", "operations", against, operations[0], operations[1]),
		compared("image size", "MB", against, sizes[:1], sizes[1:]),
	}, nil
}

// images registers the naive image beside the baked one, and returns the AMIs of the two
// and what their disks occupy, in MB.
func (b bench) images(ctx context.Context) (ids [2]string, sizes []float64, err error) {
	releases, err := release.Releases()
	if err != nil {
		return ids, nil, err
	}
	disk, err := naive.Make(ctx, b.dir, map[string]any{
		"components_dir": "dist/components", "agent_path": "bin/ovenbird-agent",
		"kubernetes_version": releases[0].Kubernetes.Version,
	})
	if err != nil {
		return ids, nil, fmt.Errorf("make the naive image: %w", err)
	}
	for n, disk := range []string{".ovenbird/image/disk.raw", disk} {
		var info unix.Stat_t
		if err := unix.Stat(disk, &info); err != nil {
			return ids, nil, fmt.Errorf("look at %s: %w", disk, err)
		}
		sizes = append(sizes, float64(info.Blocks)*512/1e6)
		if err := b.lab(ctx, nil, "up", "--image", disk); err != nil {
			return ids, nil, err
		}
		var env strings.Builder
		if err := b.lab(ctx, &env, "env"); err != nil {
			return ids, nil, err
		}
		_, after, _ := strings.Cut(env.String(), "OVENBIRD_AMI='")
		ids[n], _, _ = strings.Cut(after, "'")
	}
	return ids, sizes, nil
}

// boot starts an instance of the image alone on the machine and waits until it is Ready.
func (b bench) boot(ctx context.Context, image string) (boot, error) {
	if err := b.script(ctx, nil, "scripts/remove-nodes"); err != nil {
		return boot{}, err
	}
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return boot{}, fmt.Errorf("drop the machine's caches: %w", err)
	}
	began := time.Now()
	if err := b.script(ctx, nil, "scripts/add-node", "--image-id", image); err != nil {
		return boot{}, err
	}
	measured := boot{seconds: time.Since(began).Seconds()}
	var instances strings.Builder
	if err := b.lab(ctx, &instances, "status"); err != nil {
		return boot{}, err
	}
	for line := range strings.Lines(instances.String()) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "i-") || fields[1] != "running" {
			continue
		}
		var text strings.Builder
		if err := b.lab(ctx, &text, "stats", fields[0], "--output", "json"); err != nil {
			return boot{}, err
		}
		var stats struct{ ReadBytes, ReadOperations float64 }
		if err := json.Unmarshal([]byte(text.String()), &stats); err != nil {
			return boot{}, fmt.Errorf("read the statistics of %s: %w", fields[0], err)
		}
		measured.megabytes, measured.operations = stats.ReadBytes/1e6, stats.ReadOperations
		return measured, nil
	}
	return boot{}, errors.New("no instance runs after scripts/add-node")
}

// lab runs a command of the lab.
func (b bench) lab(ctx context.Context, out *strings.Builder, command string, args ...string) error {
	return b.script(ctx, out, "bin/ovenbird-lab", append([]string{command, "--name", b.name, "--state-dir", filepath.Join(b.dir, "lab")}, args...)...)
}

// script runs a program against the lab.
func (b bench) script(ctx context.Context, out *strings.Builder, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "OVENBIRD_STATE="+b.dir, "OVENBIRD_LAB="+b.name)
	cmd.Stderr = os.Stderr
	if out != nil {
		cmd.Stdout = out
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
