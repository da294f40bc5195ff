package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const uploadRuns = 5

// The disk of the upload: this many blocks of noise, and as many holes.
const (
	blockSize = 512 << 10
	noise     = 2048 // 1 GiB
)

// measureUpload holds the upload of a disk against HTTP PUTs of the same blocks by a client
// that does nothing else: into a snapshot, signed and with checksums, and into a plain file
// in the same process, which shows what the lab's own work on a block costs.
func measureUpload(ctx context.Context) (entries []Entry, err error) {
	dir, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk.raw")
	if err := writeDisk(disk); err != nil {
		return nil, err
	}
	env, stop, err := startEndpoint(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer stop()
	var uploads, sends, raws, sinks, memory []float64
	for run := range uploadRuns {
		var raw, sink, upload timing
		if _, err := asPart(ctx, env, &sink, partSink, disk); err != nil {
			return nil, err
		}
		if _, err := asPart(ctx, env, &raw, partRaw, disk); err != nil {
			return nil, err
		}
		peak, err := asPart(ctx, env, &upload, partUpload, disk)
		if err != nil {
			return nil, err
		}
		const mib = noise * blockSize >> 20
		sinks, raws = append(sinks, mib/sink.Seconds), append(raws, mib/raw.Seconds)
		uploads, sends, memory = append(uploads, mib/upload.Seconds), append(sends, mib/upload.Sending), append(memory, peak)
		fmt.Fprintf(os.Stderr, "upload %d: %.0f MiB/s, its blocks alone %.0f, raw PUTs %.0f, into a file %.0f; %.0f MB\n", run+1, uploads[run], sends[run], raws[run], sinks[run], peak)
	}
	return []Entry{
		compared("upload of a disk's blocks", "MiB/s", "raw PUTs into a snapshot", sends, raws),
		compared("upload with hashing and sealing", "MiB/s", "raw PUTs into a snapshot", uploads, raws),
		compared("raw PUTs into a snapshot", "MiB/s", "raw PUTs into a file", raws, sinks),
		{Name: "upload's peak memory", Value: median(memory), Unit: "MB", Runs: len(memory)},
	}, nil
}

// writeDisk writes a disk with a partition table and every second block full of noise.
func writeDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(2 * noise * blockSize); err != nil {
		return err
	}
	block, random := make([]byte, blockSize), rand.NewChaCha8([32]byte{})
	for index := range int64(noise) {
		_, _ = random.Read(block)
		if _, err := f.WriteAt(block, 2*index*blockSize); err != nil {
			return err
		}
	}
	header := make([]byte, 512)
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint32(header[12:], 92)
	binary.LittleEndian.PutUint64(header[48:], 2*noise*blockSize/512-34)
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	_, err = f.WriteAt(header, 512)
	return err
}

// timing is what a part prints.
type timing struct {
	Seconds float64
	Sending float64 `json:",omitempty"` // of them: blocks under way
}

// asPart runs this program as one of its parts and returns its peak memory in MB.
func asPart(ctx context.Context, env []string, result *timing, args ...string) (peak float64, err error) {
	cmd, err := part(ctx, env, args...)
	if err != nil {
		return 0, err
	}
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", args[0], err)
	}
	if err := json.Unmarshal(out, result); err != nil {
		return 0, fmt.Errorf("%s printed %q: %w", args[0], out, err)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage) //nolint:forcetypeassert // on Linux
	return float64(usage.Maxrss) * 1024 / 1e6, nil
}

func part(ctx context.Context, env []string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// startEndpoint starts the lab's AWS services in a process of their own, and returns the
// environment in which they are reached.
func startEndpoint(ctx context.Context, dir string) (env []string, stop func(), err error) {
	cmd, err := part(ctx, nil, partEndpoint, dir)
	if err != nil {
		return nil, nil, err
	}
	stdin, err := cmd.StdinPipe() // it ends when this closes
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	ready := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer ready.Stop()
	text, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &env)
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start the endpoint: %w", err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return env, stop, nil
}
