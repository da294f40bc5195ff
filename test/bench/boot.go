package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/vm"
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
	seconds, megabytes, operations, fetched float64
}

// snapshotRate is how fast a cold volume fetches from its snapshot, in MiB/s. AWS promises
// nothing without a provisioned rate; people measure about 5 at a first read
// (github-aws-runners/terraform-aws-github-runner#5163), and less.
const snapshotRate = 5

const blockMB = float64(vm.SnapshotBlock) / 1e6

// measureBoot boots the image and the naive one in turn, each time with nothing of its
// disk in the machine's memory, until the node is Ready: from volumes that have everything
// at hand, and from those that fetch it from their snapshot at first touch, as EC2's do.
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
	warm, err := b.boots(ctx, images, 0)
	if err != nil {
		return nil, err
	}
	cold, err := b.boots(ctx, images, snapshotRate)
	if err != nil {
		return nil, err
	}
	const against = "naive image"
	entry := func(name, unit string, boots [2][]boot, of func(boot) float64) Entry {
		var series [2][]float64
		for n := range boots {
			for _, b := range boots[n] {
				series[n] = append(series[n], of(b))
			}
		}
		return compared(name, unit, against, series[0], series[1])
	}
	seconds := func(b boot) float64 { return b.seconds }
	return []Entry{
		entry("RunInstances to Ready", "s", warm, seconds),
		entry("read until Ready", "MB", warm, func(b boot) float64 { return b.megabytes }),
		entry("reads until Ready", "operations", warm, func(b boot) float64 { return b.operations }),
		entry(fmt.Sprintf("RunInstances to Ready, %d MiB/s from the snapshot", snapshotRate), "s", cold, seconds),
		entry("fetched from the snapshot until Ready", "MB", cold, func(b boot) float64 { return b.fetched }),
		compared("image size", "MB", against, sizes[:1], sizes[1:]),
	}, nil
}

// boots boots the two images in turn, from volumes with the given rate.
func (b bench) boots(ctx context.Context, images [2]string, rate int) (boots [2][]boot, err error) {
	if err := b.lab(ctx, nil, "up", "--snapshot-rate", strconv.Itoa(rate)); err != nil {
		return boots, err
	}
	for run := range bootRuns {
		for n, image := range images {
			measured, err := b.boot(ctx, image)
			if err != nil {
				return boots, err
			}
			boots[n] = append(boots[n], measured)
			fmt.Fprintf(os.Stderr, "run %d, %s image, snapshot rate %d: Ready after %.1f s, %.1f MB in %.0f reads, %.1f MB fetched\n", run+1,
				[]string{"ovenbird", "naive"}[n], rate, measured.seconds, measured.megabytes, measured.operations, measured.fetched)
		}
	}
	return boots, nil
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
		var stats vm.DriveStats
		if err := json.Unmarshal([]byte(text.String()), &stats); err != nil {
			return boot{}, fmt.Errorf("read the statistics of %s: %w", fields[0], err)
		}
		measured.megabytes, measured.operations = float64(stats.ReadBytes)/1e6, float64(stats.ReadOperations)
		measured.fetched = float64(stats.SnapshotBlocks) * blockMB
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
