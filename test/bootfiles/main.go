// Command bootfiles prints which files of its root a node of the lab has in memory, as
// packer/image/boot-files.txt lists them: what a node reads until it is Ready, and so what
// should lie together on its disk. Run it when the image's programs have changed much:
//
//	make up && go run ./test/bootfiles >packer/image/boot-files.txt
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pod sees the node's root, as it is, at /host.
const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bootfiles"},"spec":{"restartPolicy":"Never",
"tolerations":[{"operator":"Exists"}],
"containers":[{"name":"look","image":"localhost/ovenbird/busybox:latest","imagePullPolicy":"Never","command":["sleep","600"],
"securityContext":{"privileged":true},"volumeMounts":[{"name":"host","mountPath":"/host"}]}],
"volumes":[{"name":"host","hostPath":{"path":"/"}}]}}`

// programs are what a node runs last and reads most of, in the order of their use.
var programs = []string{
	"usr/bin/ovenbird-agent", "usr/bin/containerd", "usr/bin/kubelet", "usr/bin/runc", "usr/bin/containerd-shim-runc-v2",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) == 3 && os.Args[1] == "in-memory" {
		err = printInMemory(os.Args[2])
	} else {
		err = run(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bootfiles: %v\n", err)
		os.Exit(1)
	}
}

// run looks from inside the pod, with this program.
func run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	if _, err := kubectl(ctx, strings.NewReader(pod), "create", "-f", "-"); err != nil {
		return err
	}
	defer func() {
		_, gone := kubectl(context.WithoutCancel(ctx), nil, "delete", "pod", "bootfiles", "--now")
		err = errors.Join(err, gone)
	}()
	if _, err := kubectl(ctx, nil, "wait", "pod/bootfiles", "--for=condition=Ready", "--timeout=2m"); err != nil {
		return err
	}
	if _, err := kubectl(ctx, self, "exec", "-i", "bootfiles", "--", "sh", "-c", "cat >/tmp/bootfiles && chmod +x /tmp/bootfiles"); err != nil {
		return err
	}
	out, err := kubectl(ctx, nil, "exec", "bootfiles", "--", "/tmp/bootfiles", "in-memory", "/host")
	if err != nil {
		return err
	}
	for _, pattern := range order(strings.Fields(out)) {
		fmt.Println(pattern)
	}
	return nil
}

func kubectl(ctx context.Context, in interface{ Read([]byte) (int, error) }, args ...string) (string, error) {
	found, err := filepath.Glob("dist/components/kubernetes/*/kubectl")
	if err != nil || len(found) == 0 {
		return "", errors.New("there is no kubectl in dist/components: run make up")
	}
	cmd := exec.CommandContext(ctx, found[len(found)-1], append([]string{"--kubeconfig", ".ovenbird/kubeconfig"}, args...)...)
	if in != nil {
		cmd.Stdin = in
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}

// versions are what the next update of a package or the kernel changes in a path.
var versions = []struct {
	of *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`^usr/lib/modules/[^/]+/`), "usr/lib/modules/*/"},
	{regexp.MustCompile(`\.so\.[0-9.]+$`), ".so.*"},
	{regexp.MustCompile(`-[0-9.]+\.so$`), "-*.so"},
}

// order makes patterns of paths: the system's files by path, then the programs. What is in
// containers is not the node's.
func order(paths []string) []string {
	var system []string
	for _, path := range paths {
		if slices.Contains(programs, path) || strings.HasPrefix(path, "usr/lib/ovenbird/layers/") || strings.HasPrefix(path, "boot/") {
			continue
		}
		for _, v := range versions {
			path = v.of.ReplaceAllString(path, v.to)
		}
		system = append(system, path)
	}
	slices.Sort(system)
	return append(slices.Compact(system), programs...)
}

// printInMemory prints the files of one file system of which a page is in memory.
func printInMemory(root string) error {
	var top unix.Stat_t
	if err := unix.Stat(root, &top); err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		switch {
		case stat.Dev != top.Dev && entry.IsDir():
			return fs.SkipDir
		case stat.Dev != top.Dev || !entry.Type().IsRegular() || stat.Size == 0:
			return nil
		}
		some, err := inMemory(path, int(stat.Size))
		if err == nil && some {
			fmt.Println(strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
}

func inMemory(path string, size int) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	pages, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return false, fmt.Errorf("map %s: %w", path, err)
	}
	defer func() { _ = unix.Munmap(pages) }()
	resident := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	_, _, failed := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&pages[0])), uintptr(size), uintptr(unsafe.Pointer(&resident[0]))) //nolint:gosec // x/sys has no mincore
	if failed != 0 {
		return false, fmt.Errorf("look where %s is: %w", path, failed)
	}
	return slices.ContainsFunc(resident, func(page byte) bool { return page&1 == 1 }), nil
}
