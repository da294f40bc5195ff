package erofs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// mkfs makes a file system of dir with Debian 13's mkfs.erofs, which a bake has kept.
func mkfs(t *testing.T, dir string, arguments ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image.erofs")
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	trees, err := filepath.Glob(filepath.Join(user, "ovenbird/tools/trixie-*"))
	if err != nil || len(trees) == 0 {
		t.Skip("there is no mkfs.erofs of Debian 13: bake an image first")
	}
	tools := trees[len(trees)-1]
	words := append([]string{
		"--library-path", tools + "/usr/lib/x86_64-linux-gnu", tools + "/usr/bin/mkfs.erofs", "--quiet", "-T", "1", "--all-time",
	}, append(arguments, image, dir)...)
	if said, err := exec.Command(tools+"/usr/lib64/ld-linux-x86-64.so.2", words...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, said)
	}
	return image
}

// sources are files of every kind that a layout makes a difference for.
func sources() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	// Words that repeat, with noise between: some of it compresses well, some badly.
	var prose bytes.Buffer
	for prose.Len() < 3<<20 {
		fmt.Fprintf(&prose, "line %d of a file that compresses, ", random.IntN(1000))
		if random.IntN(200) == 0 {
			prose.Write(noise(random.IntN(20000)))
		}
	}
	files := map[string][]byte{
		"empty": nil, "small": []byte("small\n"), "block": noise(4096), "block-and-byte": noise(4097), "noise": noise(300_000),
		"prose": prose.Bytes(), "zeros": make([]byte, 1<<20), "odd": prose.Bytes()[:123_457],
		"usr/lib/deep/er/file": bytes.Repeat([]byte("deep "), 3000),
	}
	for n := range 400 { // a directory of more than one block
		files[fmt.Sprintf("many/a-file-with-a-name-of-some-length-%03d", n)] = prose.Bytes()[n : n+10*n]
	}
	return files
}

func TestItReadsWhatMkfsMakes(t *testing.T) {
	dir := t.TempDir()
	for name, content := range sources() {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"lib": "usr/lib", "absolute": "/usr/lib/deep", "usr/up": "../small", "loop": "loop", "gone": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "small"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	for name, arguments := range map[string][]string{
		"not compressed":               nil,
		"lz4":                          {"-zlz4"},
		"lz4hc, large clusters":        {"-zlz4hc,12", "-C65536"},
		"zstd":                         {"-zzstd,3"},
		"zstd, large clusters":         {"-zzstd,3", "-C65536"},
		"zstd, largest clusters":       {"-zzstd,3", "-C1048576"},
		"zstd, long inodes, no inline": {"-zzstd,3", "-C65536", "-Eforce-inode-extended,noinline_data"},
	} {
		t.Run(name, func(t *testing.T) {
			image, err := os.Open(mkfs(t, dir, arguments...))
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close()
			fsys, err := Open(image)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range sources() {
				got, err := fs.ReadFile(fsys, name)
				if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
					t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(want))
				}
			}
			checkLinks(t, fsys)
			if info, err := fs.Stat(fsys, "small"); err != nil || info.Mode() != 0o755|fs.ModeSetuid || info.Size() != 6 {
				t.Errorf("small is %v, %v", info, err)
			}
		})
	}
}

func checkLinks(t *testing.T, fsys *FS) {
	t.Helper()
	for link, want := range map[string]string{"lib/deep/er/file": "deep deep", "absolute/er/file": "deep deep", "usr/up": "small\n"} {
		if got, err := fs.ReadFile(fsys, link); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %.10q, %v", link, got, err)
		}
	}
	if _, err := fsys.Open("loop"); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a link to itself: %v", err)
	}
	if _, err := fsys.Open("gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nothing: %v", err)
	}
	if target, err := fsys.ReadLink("gone"); err != nil || target != "nowhere" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

func TestItIsAFileSystemAsGoWantsIt(t *testing.T) {
	dir := t.TempDir()
	for name, content := range sources() {
		if strings.HasPrefix(name, "many/") && !strings.HasSuffix(name, "9") {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image, err := os.Open(mkfs(t, dir, "-zzstd,3", "-C65536"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	fsys, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(fsys, "prose", "usr/lib/deep/er/file", "empty"); err != nil {
		t.Error(err)
	}
}

func TestALayoutThatItDoesNotKnowIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "odd"), sources()["odd"], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{{"-zlz4", "-Elegacy-compress"}, {"-zzstd", "-Efragments"}, {"-zdeflate"}} {
		image, err := os.Open(mkfs(t, dir, arguments...))
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		fsys, err := Open(image)
		if err == nil {
			_, err = fs.ReadFile(fsys, "odd")
		}
		if err == nil || !strings.Contains(err.Error(), "this reader does not know") {
			t.Errorf("%v: %v", arguments, err)
		}
	}
}

func TestWhatIsNoFileSystemIsRefused(t *testing.T) {
	if _, err := Open(bytes.NewReader(make([]byte, 8192))); !errors.Is(err, ErrNoFileSystem) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := Open(bytes.NewReader(make([]byte, 100))); !errors.Is(err, io.EOF) {
		t.Errorf("too short: %v", err)
	}
}

// A damaged image must give an error, never a panic, an endless loop or all the memory.
func TestDamageIsAnError(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"odd", "small", "block-and-byte"} {
		if err := os.WriteFile(filepath.Join(dir, name), sources()[name], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(mkfs(t, dir, "-zzstd,3", "-C65536"))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	noticed := 0
	for range 1000 {
		damaged := bytes.Clone(whole)
		for range 1 + random.IntN(4) {
			damaged[random.IntN(8192)] = byte(random.Uint32()) // where the index is
		}
		fsys, err := Open(bytes.NewReader(damaged))
		if err != nil {
			noticed++
			continue
		}
		err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if strings.Count(name, "/") > 8 {
				return errors.New("a directory is in itself")
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil || info.Size() > 1<<20 {
				return errors.Join(err, errors.New("it has grown"))
			}
			_, err = fs.ReadFile(fsys, name)
			return err
		})
		if err != nil {
			noticed++
		}
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
}
