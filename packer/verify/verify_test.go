package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/sbom"
)

// verify returns the checks of an outcome, with their details by name.
func verify(t *testing.T, o Options) map[Outcome]map[string]string {
	t.Helper()
	var told []Check
	report, err := Run(t.Context(), o, func(c Check) { told = append(told, c) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, report.Checks) {
		t.Errorf("told %v, reported %v", told, report.Checks)
	}
	checks := map[Outcome]map[string]string{OK: {}, Failed: {}, Skipped: {}}
	for _, c := range report.Checks {
		checks[c.Outcome][c.Name] = c.Detail
		if c.Outcome == Failed && c.Remedy == "" {
			t.Errorf("%s does not say what to do: %s", c.Name, c.Detail)
		}
	}
	if report.OK != (len(checks[Failed]) == 0) {
		t.Errorf("the report says %v about %v", report.OK, report.Checks)
	}
	return checks
}

func TestADiskThatNobodyHasTouchedIsWhatItIsSaidToBe(t *testing.T) {
	b := bake(t, "verity")
	got := verify(t, Options{Disk: b.disk(), Key: b.pub})
	if len(got[OK]) != 10 {
		t.Errorf("got %v", got)
	}
	if want := "1 of the lock and 1 of the SBOM, each as said there; for 1 in /var only the SHA-256 of the whole disk vouches"; got[OK]["programs in the image"] != want {
		t.Errorf("got %q, want %q", got[OK]["programs in the image"], want)
	}
	got = verify(t, Options{Disk: b.disk()})
	if len(got[Failed]) > 0 || !strings.Contains(got[Skipped]["signature"], "--key PUBLIC-KEY checks whose it is") {
		t.Errorf("without a key: %v", got)
	}
	if err := os.Remove(b.file(attest.SignatureName)); err != nil {
		t.Fatal(err)
	}
	got = verify(t, Options{Disk: b.disk()})
	if len(got[Failed]) > 0 || !strings.Contains(got[Skipped]["signature"], "anybody could have written") {
		t.Errorf("not signed: %v", got)
	}
}

func TestEachChangeFailsInItsOwnWords(t *testing.T) {
	original := bake(t, "verity")
	_, otherKey := newKey(t)
	for _, test := range []struct {
		name   string
		change func(t *testing.T, b *baked)
		want   map[string]string // the checks that fail, and words of their details
	}{
		{"a changed lock", func(t *testing.T, b *baked) { replace(t, b.file(lock.FileName), "1.37.2", "1.37.3") },
			map[string]string{"lock": "ovenbird.lock.json was changed after the bake"}},
		{"a changed SBOM", func(t *testing.T, b *baked) { replace(t, b.file(sbom.FileName), "1.0-1", "1.0-2") },
			map[string]string{"SBOM": "sbom.spdx.json was changed after the bake"}},
		{"no SBOM", func(t *testing.T, b *baked) { remove(t, b.file(sbom.FileName)) },
			map[string]string{"SBOM": "there is no sbom.spdx.json beside the disk"}},
		{"a changed provenance", func(t *testing.T, b *baked) { replace(t, b.file(attest.FileName), `"abc"`, `"abd"`) },
			map[string]string{"signature": "signed with another key, or changed after it was signed"}},
		{"no provenance", func(t *testing.T, b *baked) { remove(t, b.file(attest.FileName)) },
			map[string]string{"provenance": "nothing says where it comes from"}},
		{"a provenance that is none", func(t *testing.T, b *baked) { write(t, b.file(attest.FileName), []byte("{}")) },
			map[string]string{"provenance": "not an in-toto statement"}},
		{"another key", func(_ *testing.T, b *baked) { b.pub = otherKey },
			map[string]string{"signature": "signed with another key"}},
		{"a key that is none", func(_ *testing.T, b *baked) { b.pub = b.disk() },
			map[string]string{"signature": "holds no public key"}},
		{"no signature", func(t *testing.T, b *baked) { remove(t, b.file(attest.SignatureName)) },
			map[string]string{"signature": "there is no provenance.json.sig beside the disk, though --key wants one"}},
		{"a signature that is none", func(t *testing.T, b *baked) { write(t, b.file(attest.SignatureName), []byte("%")) },
			map[string]string{"signature": "it is not a signature"}},
		{"a bit of the root", func(t *testing.T, b *baked) { flip(t, b.disk(), rootStart+verityBlock+17) },
			map[string]string{"root file system": "block 1 of the root file system was changed", "disk": "it was changed after the bake"}},
		{"a bit of the hashes", func(t *testing.T, b *baked) { flip(t, b.disk(), hashStart+verityBlock+5) },
			map[string]string{"root file system": "the hashes on the disk are not those of the root file system", "disk": "it was changed after the bake"}},
		{"the superblock of the hashes", func(t *testing.T, b *baked) { flip(t, b.disk(), hashStart) },
			map[string]string{"root file system": "no dm-verity superblock", "disk": "it was changed after the bake"}},
		{"a bit of /var", func(t *testing.T, b *baked) { flip(t, b.disk(), varStart+5000) },
			map[string]string{"disk": "it was changed after the bake"}},
		{"another root with its hashes", func(t *testing.T, b *baked) {
			write(t, filepath.Join(b.tree, "etc/shadow"), []byte("root::1::::::\n"))
			root, hashes, _ := packRoot(t, b.tree)
			patch(t, b.disk(), rootStart, root)
			patch(t, b.disk(), hashStart, hashes)
		}, map[string]string{"root file system": "it is not the one that the kernel boots", "disk": "it was changed after the bake"}},
		{"a kernel image without a root hash", func(t *testing.T, b *baked) {
			at := strings.Index(string(read(t, b.disk())), "roothash=")
			patch(t, b.disk(), int64(at), []byte("rootcash="))
		}, map[string]string{"kernel image": "it has 0 root hashes, want one", "disk": "it was changed after the bake"}},
		{"a kernel image with two root hashes", func(t *testing.T, b *baked) {
			at := strings.Index(string(read(t, b.disk())), " console=ttyS0")
			patch(t, b.disk(), int64(at), []byte(" roothash=0000"))
		}, map[string]string{"kernel image": "it has 2 root hashes, want one", "disk": "it was changed after the bake"}},
		{"a disk that is cut short", func(t *testing.T, b *baked) { truncate(t, b.disk(), fixtureSize-2*mib) },
			map[string]string{"partitions": "the disk is cut short", "disk": "it was changed after the bake"}},
		{"a disk that lacks its last sector", func(t *testing.T, b *baked) { truncate(t, b.disk(), fixtureSize-sectorSize) },
			map[string]string{"partitions": "the copy of the partition table at the end", "disk": "it was changed after the bake"}},
		{"a bit of the partition table", func(t *testing.T, b *baked) { flip(t, b.disk(), 2*sectorSize+40) },
			map[string]string{"partitions": "the partition table is damaged", "disk": "it was changed after the bake"}},
		{"a lock that names another program, signed", func(t *testing.T, b *baked) {
			b.lock.Components = slices.Clone(b.lock.Components)
			b.lock.Components[0].Programs = []lock.Program{{Name: "kubelet", Path: "/" + fixtureProgram, SHA256: strings.Repeat("0", 64)}}
			b.describe(t)
			b.pack(t, "verity")
			b.attest(t)
		}, map[string]string{"programs in the image": "/usr/bin/kubelet in the image has the SHA-256"}},
		{"an SBOM that names another program, signed", func(t *testing.T, b *baked) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			replace(t, b.file(sbom.FileName), digest(read(t, self)), strings.Repeat("0", 64))
			write(t, filepath.Join(b.tree, documents, sbom.FileName), read(t, b.file(sbom.FileName)))
			write(t, filepath.Join(b.tree, documents, attest.FileName), b.state(t, read(t, b.file(lock.FileName)), read(t, b.file(sbom.FileName))))
			b.pack(t, "verity")
			b.attest(t)
		}, map[string]string{"programs in the image": "container layer 1: /app in the image has the SHA-256"}},
		{"another bake's lock, signed", func(t *testing.T, b *baked) {
			b.lock.Plugin.Commit = "other"
			text, err := b.lock.Encode()
			if err != nil {
				t.Fatal(err)
			}
			write(t, b.file(lock.FileName), text)
			b.attest(t)
		}, map[string]string{"documents in the image": "ovenbird.lock.json in the image is not the ovenbird.lock.json beside it"}},
		{"an SBOM that leaves a package out, signed", func(t *testing.T, b *baked) {
			replace(t, b.file(sbom.FileName), "pkg:deb/debian/tool@", "pkg:deb/debian/other@")
			write(t, filepath.Join(b.tree, documents, sbom.FileName), read(t, b.file(sbom.FileName)))
			write(t, filepath.Join(b.tree, documents, attest.FileName), b.state(t, read(t, b.file(lock.FileName)), read(t, b.file(sbom.FileName))))
			b.pack(t, "verity")
			b.attest(t)
		}, map[string]string{"SBOM": "does not list tool 1.0-1"}},
		{"an SBOM that leaves a container image out, signed", func(t *testing.T, b *baked) {
			replace(t, b.file(sbom.FileName), "pkg:oci/app@", "pkg:oci/other@")
			write(t, filepath.Join(b.tree, documents, sbom.FileName), read(t, b.file(sbom.FileName)))
			write(t, filepath.Join(b.tree, documents, attest.FileName), b.state(t, read(t, b.file(lock.FileName)), read(t, b.file(sbom.FileName))))
			b.pack(t, "verity")
			b.attest(t)
		}, map[string]string{"SBOM": "does not list the container image localhost/app:1.0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := *original
			b.dir = t.TempDir()
			for _, dir := range []struct{ from, to string }{{original.dir, b.dir}, {original.tree, t.TempDir()}} {
				if err := os.CopyFS(dir.to, os.DirFS(dir.from)); err != nil {
					t.Fatal(err)
				}
				b.tree = dir.to
			}
			test.change(t, &b)
			got := verify(t, Options{Disk: b.disk(), Key: b.pub})
			for name, want := range test.want {
				if !strings.Contains(got[Failed][name], want) {
					t.Errorf("%s: %q, want %q", name, got[Failed][name], want)
				}
			}
			if len(got[Failed]) != len(test.want) {
				t.Errorf("these failed: %v", got[Failed])
			}
		})
	}
}

func TestOfAnExt4DiskIsCheckedWhatCanBe(t *testing.T) {
	b := bake(t, "ext4")
	got := verify(t, Options{Disk: b.disk(), Key: b.pub})
	if len(got[Failed]) > 0 || len(got[OK]) != 8 || len(got[Skipped]) != 2 || !strings.Contains(got[Skipped]["root file system"], "only the SHA-256 of the whole disk vouches for it") {
		t.Errorf("got %v", got)
	}
}

func TestADiskOfSomebodyElseIsSaidToBeOne(t *testing.T) {
	dir := t.TempDir()
	zeros, other := filepath.Join(dir, "zeros.raw"), filepath.Join(dir, "other.raw")
	write(t, zeros, nil)
	truncate(t, zeros, mib)
	writeDisk(t, other, []*gpt.Partition{partition("Linux", gpt.LinuxFilesystem, mib, 8*mib)}, nil)
	for disk, want := range map[string]string{
		zeros: "there is no partition table", other: `the disk is not one of ovenbird-image: its partitions are ["Linux"]`,
	} {
		got := verify(t, Options{Disk: disk})
		if !strings.Contains(got[Failed]["partitions"], want) || !strings.Contains(got[Failed]["provenance"], "there is no provenance.json") {
			t.Errorf("%s: %v", disk, got)
		}
	}
}

func TestADiskThatIsNotThereIsAnError(t *testing.T) {
	if _, err := Run(t.Context(), Options{Disk: filepath.Join(t.TempDir(), "no")}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Run(t.Context(), Options{Disk: t.TempDir()}, nil); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a directory: %v", err)
	}
}

func TestAnInterruptEndsAVerification(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := bake(t, "verity")
	_, err := Run(ctx, Options{Disk: b.disk()}, func(c Check) {
		if c.Name == "partitions" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The tree has more than one level from 129 blocks on, and three from 16385.
func TestHashesOfAnySizeAreVeritysetups(t *testing.T) {
	for _, blocks := range []int64{1, 2, 127, 128, 129, 1025, 16385} {
		dir := t.TempDir()
		image, verity, hash := filepath.Join(dir, "data"), filepath.Join(dir, "verity"), filepath.Join(dir, "hash")
		content := make([]byte, blocks*verityBlock)
		if _, err := rand.Read(content); err != nil {
			t.Fatal(err)
		}
		write(t, image, content)
		write(t, verity, nil)
		tool(t, "usr/sbin/veritysetup", "format", "--root-hash-file="+hash, image, verity)
		for _, damage := range []int64{-1, 0, blocks - 1, blocks / 2} {
			if damage >= 0 {
				flip(t, image, damage*verityBlock+100)
			}
			got, err := checkFiles(t, image, verity, string(read(t, hash)))
			switch {
			case damage < 0 && (err != nil || got != blocks):
				t.Errorf("%d blocks: %d, %v", blocks, got, err)
			case damage >= 0 && (err == nil || !strings.Contains(err.Error(), "was changed")):
				t.Errorf("%d blocks, number %d changed: %v", blocks, damage, err)
			}
			if damage >= 0 {
				flip(t, image, damage*verityBlock+100)
			}
		}
	}
}
