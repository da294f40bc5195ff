// Package initrd makes the initrd of a node with a verified root: one program, the few
// kernel modules that the kernel lacks on its way to the root, and nothing else. The
// same input makes the same bytes.
package initrd

import (
	"bufio"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// program holds the init program once `make build` has compiled it.
//
//go:embed program
var program embed.FS

// modules are what the way to the root needs, unless the kernel has it built in.
var modules = []string{"dm-verity", "erofs", "overlay", "efivarfs"}

// faster is what comes along, and first, where the kernel has it as a module: dm-verity takes
// the hash that is there when it starts, and the processor's own is several times as fast.
var faster = []string{"sha256-ssse3"}

// Write writes the initrd for the kernel whose modules lie in modulesDir
// (usr/lib/modules/<version>).
func Write(w io.Writer, modulesDir string) error {
	init, err := program.ReadFile("program/init")
	if err != nil {
		return errors.New("this program was built without the initrd's init: build it with `make build`")
	}
	list, err := load(modulesDir)
	if err != nil {
		return err
	}
	compressed, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("write the initrd: %w", err)
	}
	archive := cpio.NewWriter(compressed)
	err = errors.Join(
		file(archive, "init", 0o755, init),
		directory(archive, "modules"),
	)
	for n, m := range list {
		err = errors.Join(err, file(archive, fmt.Sprintf("modules/%02d-%s", n, m.name), 0o644, m.content))
	}
	if err := errors.Join(err, archive.Close(), compressed.Close()); err != nil {
		return fmt.Errorf("write the initrd: %w", err)
	}
	return nil
}

func directory(w *cpio.Writer, name string) error {
	return w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755, Links: 2})
}

func file(w *cpio.Writer, name string, mode cpio.FileMode, content []byte) error {
	if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | mode, Links: 1, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// module is a kernel module, uncompressed.
type module struct {
	name    string // dm-verity.ko
	content []byte
}

// load reads the modules and what they depend on, in the order in which they load.
func load(modulesDir string) ([]module, error) {
	builtIn, err := names(filepath.Join(modulesDir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	dependencies, err := dependencies(filepath.Join(modulesDir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range slices.Concat(faster, modules) {
		if slices.Contains(builtIn, name) {
			continue
		}
		chain, ok := dependencies[name]
		if !ok && slices.Contains(faster, name) {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("the kernel in %s has no module %s, which a verified root needs", modulesDir, name)
		}
		for _, file := range chain {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	list := make([]module, 0, len(files))
	for _, file := range files {
		content, err := read(filepath.Join(modulesDir, file))
		if err != nil {
			return nil, fmt.Errorf("read kernel module %s: %w", file, err)
		}
		list = append(list, module{name: moduleName(file) + ".ko", content: content})
	}
	return list, nil
}

// moduleName is what a module's file is called without its directory and its suffixes.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return name
}

// names lists the modules of a modules.builtin.
func names(list string) ([]string, error) {
	content, err := os.ReadFile(list)
	if err != nil {
		return nil, fmt.Errorf("find what is built into the kernel: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		found = append(found, moduleName(strings.TrimSpace(line)))
	}
	return found, nil
}

// dependencies reads a modules.dep: for each module the files to load, its own last.
func dependencies(list string) (map[string][]string, error) {
	content, err := os.Open(list)
	if err != nil {
		return nil, fmt.Errorf("find what kernel modules depend on: %w", err)
	}
	defer content.Close()
	chains := map[string][]string{}
	lines := bufio.NewScanner(content)
	for lines.Scan() {
		// FILE: the modules that it needs, those that need no other last.
		file, needs, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		chain := strings.Fields(needs)
		slices.Reverse(chain)
		chains[moduleName(file)] = append(chain, file)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("find what kernel modules depend on: %w", err)
	}
	return chains, nil
}

// maxModule bounds a module in memory; the largest of Debian's cloud kernel has 2 MB.
const maxModule = 32 << 20

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var content io.Reader = f
	if strings.HasSuffix(name, ".xz") {
		if content, err = xz.NewReader(bufio.NewReader(f)); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(content, maxModule))
}
