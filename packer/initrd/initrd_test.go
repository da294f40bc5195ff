package initrd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// kernel lays out the modules of a kernel; those whose name ends in .xz are compressed.
func kernel(t *testing.T, builtIn, dep string, modules ...string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, content []byte) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("modules.builtin", []byte(builtIn))
	put("modules.dep", []byte(dep))
	for _, name := range modules {
		content := []byte("module " + name)
		if strings.HasSuffix(name, ".xz") {
			var compressed bytes.Buffer
			w, err := xz.NewWriter(&compressed)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(content)
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			content = compressed.Bytes()
		}
		put(name, content)
	}
	return dir
}

const debianDep = `kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/md/dm-bufio.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz
kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/fs/overlayfs/overlay.ko.xz:
kernel/fs/efivarfs/efivarfs.ko.xz:
kernel/arch/x86/crypto/sha256-ssse3.ko.xz:
`

func debian(t *testing.T) string {
	return kernel(t, "kernel/fs/ext4/ext4.ko\n", debianDep,
		"kernel/drivers/md/dm-mod.ko.xz", "kernel/drivers/md/dm-bufio.ko.xz", "kernel/drivers/md/dm-verity.ko.xz",
		"kernel/fs/erofs/erofs.ko.xz", "kernel/lib/libcrc32c.ko", "kernel/fs/overlayfs/overlay.ko.xz",
		"kernel/fs/efivarfs/efivarfs.ko.xz", "kernel/arch/x86/crypto/sha256-ssse3.ko.xz")
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	list, err := load(debian(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range list {
		got = append(got, m.name)
		if !strings.HasPrefix(string(m.content), "module kernel/") {
			t.Errorf("%s is %q", m.name, m.content)
		}
	}
	want := []string{"sha256-ssse3.ko", "dm-mod.ko", "dm-bufio.ko", "dm-verity.ko", "libcrc32c.ko", "erofs.ko", "overlay.ko", "efivarfs.ko"}
	if !slices.Equal(got, want) {
		t.Errorf("the modules are %v, want %v", got, want)
	}
}

func TestWhatIsBuiltInIsLeftOut(t *testing.T) {
	list, err := load(kernel(t, "kernel/drivers/md/dm-verity.ko\nkernel/fs/erofs/erofs.ko\nkernel/fs/overlayfs/overlay.ko\nkernel/fs/efivarfs/efivarfs.ko\n", ""))
	if err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestAKernelWithoutVerityIsRefused(t *testing.T) {
	_, err := load(kernel(t, "", "kernel/fs/erofs/erofs.ko:\n"))
	if err == nil || !strings.Contains(err.Error(), "has no module dm-verity") {
		t.Errorf("the error is %v", err)
	}
}

func TestTheInitrdHoldsTheProgramAndTheModules(t *testing.T) {
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := Write(w, debian(t)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same modules made two different initrds")
	}
	compressed, err := zstd.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	defer compressed.Close()
	var names []string
	for archive := cpio.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if header.Name == "init" && header.Mode.Perm() != 0o755 {
			t.Errorf("init has mode %v", header.Mode)
		}
	}
	want := []string{"init", "modules", "modules/00-sha256-ssse3.ko", "modules/01-dm-mod.ko", "modules/02-dm-bufio.ko",
		"modules/03-dm-verity.ko", "modules/04-libcrc32c.ko", "modules/05-erofs.ko", "modules/06-overlay.ko",
		"modules/07-efivarfs.ko"}
	if !slices.Equal(names, want) {
		t.Errorf("the initrd holds %v, want %v", names, want)
	}
}
