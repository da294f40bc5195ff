package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/sbom"
)

const mib = int64(1) << 20

// Where the parts of a fixture's disk lie.
const (
	espStart, espSize     = mib, 40 * mib
	rootStart, rootSize   = espStart + espSize, 24 * mib
	hashStart, hashSize   = rootStart + rootSize, mib
	varStart, varSize     = hashStart + hashSize, 8 * mib
	fixtureSize           = varStart + varSize + mib
	fixtureProgram        = "usr/bin/kubelet"
	fixtureProgramContent = "a program that is read in several extents, "
)

// tool runs a program of the Debian tree that a bake has kept.
func tool(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	trees, err := filepath.Glob(filepath.Join(user, "ovenbird/tools/trixie-*"))
	if err != nil || len(trees) == 0 {
		t.Skip("there are no tools of Debian 13: bake an image first")
	}
	tools := trees[len(trees)-1]
	words := append([]string{"--library-path", tools + "/usr/lib/x86_64-linux-gnu", filepath.Join(tools, name)}, arguments...)
	said, err := exec.Command(tools+"/usr/lib64/ld-linux-x86-64.so.2", words...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, said)
	}
	return string(said)
}

// baked is a directory with what a bake leaves.
type baked struct {
	dir  string
	key  *ecdsa.PrivateKey
	pub  string // the file of its public half
	lock lock.Lock
	tree string // the root file system before it is packed
}

func (b *baked) file(name string) string { return filepath.Join(b.dir, name) }
func (b *baked) disk() string            { return b.file(diskName) }

// bake makes a small disk as a bake does, with the programs that a bake uses.
func bake(t *testing.T, rootFilesystem string) *baked {
	t.Helper()
	b := &baked{dir: t.TempDir(), tree: t.TempDir()}
	b.key, b.pub = newKey(t)
	content := strings.Repeat(fixtureProgramContent, 20_000)
	write(t, filepath.Join(b.tree, fixtureProgram), []byte(content))
	self, err := os.Executable() // a Go program that the SBOM lists, in a container image
	if err != nil {
		t.Fatal(err)
	}
	layer := map[string]string{"verity": "usr/lib/ovenbird/layers", "ext4": "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"}[rootFilesystem]
	write(t, filepath.Join(b.tree, layer, "1/fs/app"), read(t, self))
	if rootFilesystem == "verity" {
		write(t, filepath.Join(b.tree, "var/lib/tool/tool"), read(t, self))
	}
	sum := strings.Repeat("5a", 32)
	debian := lock.Package{Name: "tool", Version: "1.0-1", Architecture: "amd64", Source: "tool", SourceVersion: "1.0-1", SHA256: sum, Size: 1, Archive: "debian", Path: "pool/tool.deb"}
	b.lock = lock.Lock{
		Suite: "trixie", Architecture: "amd64", Epoch: time.Unix(1_700_000_000, 0).UTC(),
		Options: lock.Options{DiskSize: fixtureSize, RootFilesystem: rootFilesystem}, Plugin: lock.Plugin{Version: "0.1.0", Commit: "abc"},
		Machine: []lock.Package{debian}, Tools: []lock.Package{debian},
		Components: []lock.Component{{Name: "kubernetes", Version: "1.37.2", Programs: []lock.Program{
			{Name: "kubelet", Path: "/" + fixtureProgram, SHA256: digest([]byte(content))},
			{Name: "kube-proxy", SHA256: sum}, // inside a container image
		}}},
		Images: []lock.Image{{Names: []string{"localhost/app:1.0"}, Digest: "sha256:" + sum}},
	}
	b.describe(t)
	b.pack(t, rootFilesystem)
	b.attest(t)
	return b
}

// describe writes lock, SBOM and provenance into the tree, and the first two beside the disk.
func (b *baked) describe(t *testing.T) {
	t.Helper()
	text, err := b.lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	list, err := sbom.Write(sbom.Image{Root: b.tree, Packages: b.lock.Installed(), Images: b.lock.Images, Epoch: b.lock.Epoch, Plugin: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	statement := b.state(t, text, list)
	for name, content := range map[string][]byte{lock.FileName: text, sbom.FileName: list, attest.FileName: statement} {
		write(t, filepath.Join(b.tree, documents, name), content)
		write(t, b.file(name), content)
	}
}

func (b *baked) state(t *testing.T, lockText, list []byte, more ...attest.Resource) []byte {
	t.Helper()
	statement, err := attest.State(b.lock, digest(lockText), nil, append(more, attest.File(lock.FileName, digest(lockText)), attest.File(sbom.FileName, digest(list)))...)
	if err != nil {
		t.Fatal(err)
	}
	return statement
}

// attest states and signs what lies in the directory now.
func (b *baked) attest(t *testing.T) {
	t.Helper()
	statement := b.state(t, read(t, b.file(lock.FileName)), read(t, b.file(sbom.FileName)), attest.File(diskName, digest(read(t, b.disk()))))
	signature, err := attest.Sign(b.key, statement)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.file(attest.FileName), statement)
	write(t, b.file(attest.SignatureName), signature)
}

// pack makes the disk of the tree.
func (b *baked) pack(t *testing.T, rootFilesystem string) {
	t.Helper()
	parts := []*gpt.Partition{partition("esp", gpt.EFISystemPartition, espStart, espSize)}
	commandLine := "root=PARTUUID=5f1b8b4e-6f3a-4e2a-9d0c-0a1e6c2b7d63 console=ttyS0"
	var root, hashes []byte
	if rootFilesystem == "verity" {
		root, hashes, commandLine = packRoot(t, b.tree)
		commandLine = "roothash=" + commandLine + " console=ttyS0"
		parts = append(parts, partition(disk.Root, gpt.LinuxFilesystem, rootStart, rootSize),
			partition(disk.RootVerity, gpt.LinuxFilesystem, hashStart, hashSize), partition(disk.Var, gpt.LinuxFilesystem, varStart, varSize))
	} else {
		parts = append(parts, partition("root", gpt.LinuxFilesystem, rootStart, varStart+varSize-rootStart))
	}
	writeDisk(t, b.disk(), parts, kernelImage(commandLine))
	if rootFilesystem == "verity" {
		patch(t, b.disk(), rootStart, root)
		patch(t, b.disk(), hashStart, hashes)
		return
	}
	tool(t, "usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", rootStart), "-d", b.tree, b.disk(), fmt.Sprintf("%dk", (varStart+varSize-rootStart)/1024))
}

// packRoot makes a root, its hashes and the root hash of a tree.
func packRoot(t *testing.T, tree string) (root, hashes []byte, rootHash string) {
	t.Helper()
	dir := t.TempDir()
	image, verity, hash := filepath.Join(dir, "root.erofs"), filepath.Join(dir, "root.verity"), filepath.Join(dir, "hash")
	tool(t, "usr/bin/mkfs.erofs", "--quiet", "-zzstd,3", "-C65536", "-T", "1", "--all-time", "--exclude-regex=^var/.+", image, tree)
	write(t, verity, nil)
	tool(t, "usr/sbin/veritysetup", "format", "--salt=6f76", "--root-hash-file="+hash, image, verity)
	return read(t, image), read(t, verity), strings.TrimSpace(string(read(t, hash)))
}

func partition(name string, kind gpt.Type, start, size int64) *gpt.Partition {
	return &gpt.Partition{Start: uint64(start / sectorSize), End: uint64((start+size)/sectorSize - 1), Size: uint64(size), Type: kind, Name: name}
}

func writeDisk(t *testing.T, name string, parts []*gpt.Partition, uki []byte) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(fixtureSize); err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		p.Index = i + 1
	}
	storage := file.New(f, false)
	table := &gpt.Table{ProtectiveMBR: true, LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, Partitions: parts}
	if err := table.Write(f, fixtureSize); err != nil {
		t.Fatal(err)
	}
	if uki == nil {
		return
	}
	esp, err := fat32.Create(storage, espSize, espStart, sectorSize, "ESP", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := esp.Mkdir("/EFI/BOOT"); err != nil {
		t.Fatal(err)
	}
	boot, err := esp.OpenFile(bootFile, os.O_CREATE|os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := boot.Write(uki); err != nil {
		t.Fatal(err)
	}
}

// kernelImage is an EFI program with the sections of a unified kernel image and no code.
func kernelImage(commandLine string) []byte {
	const header, optional, sections = 64, 240, 2
	var image bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&image, binary.LittleEndian, v) // into a buffer
		}
	}
	dos := make([]byte, header)
	copy(dos, "MZ")
	dos[60] = header
	put(dos, []byte("PE\x00\x00"), uint16(0x8664), uint16(sections), [3]uint32{}, uint16(optional), uint16(0x22))
	plus := make([]byte, optional)
	binary.LittleEndian.PutUint16(plus, 0x20b)
	binary.LittleEndian.PutUint32(plus[108:], 16)
	put(plus)
	for i, section := range []struct{ name, data string }{{".linux", "kernel"}, {".cmdline", commandLine}} {
		var name [8]byte
		copy(name[:], section.name)
		put(name, uint32(len(section.data)), uint32(0x1000*(i+1)), uint32(512), uint32(512*(i+1)), [3]uint32{}, uint32(0x40000040))
	}
	for _, data := range []string{"kernel", commandLine} {
		put(make([]byte, (512-image.Len()%512)%512), []byte(data))
	}
	put(make([]byte, (512-image.Len()%512)%512))
	return image.Bytes()
}

func newKey(t *testing.T) (key *ecdsa.PrivateKey, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public = filepath.Join(t.TempDir(), "pub.pem")
	write(t, public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return key, public
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// patch writes into a file that is there.
func patch(t *testing.T, name string, at int64, content []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, at); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bit := make([]byte, 1)
	if _, err := io.ReadFull(io.NewSectionReader(f, at, 1), bit); err != nil {
		t.Fatal(err)
	}
	patch(t, name, at, []byte{bit[0] ^ 1})
}

// replace changes a text in a file.
func replace(t *testing.T, name, old, text string) {
	t.Helper()
	content := read(t, name)
	if !bytes.Contains(content, []byte(old)) {
		t.Fatalf("%s has no %q", name, old)
	}
	write(t, name, bytes.Replace(content, []byte(old), []byte(text), 1))
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

// checkFiles is checkVerity of files.
func checkFiles(t *testing.T, data, hashes, rootHash string) (int64, error) {
	t.Helper()
	var parts []*io.SectionReader
	for _, name := range []string{data, hashes} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, io.NewSectionReader(f, 0, info.Size()))
	}
	raw, err := hex.DecodeString(strings.TrimSpace(rootHash))
	if err != nil {
		t.Fatal(err)
	}
	return checkVerity(t.Context(), parts[0], parts[1], raw)
}
