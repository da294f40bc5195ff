package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// What is in an archive: a tar file, compressed with zstd, encrypted with age.
const (
	registryFile = "registry.json"
	snapshotFile = "etcd.db"
	keyPrefix    = "pki/"
	// manifestFile comes last, so that an archive that has one is complete.
	manifestFile = "manifest.json"

	format = 1
	// maxDocument bounds what is read into memory: a manifest, a cluster's registry documents.
	maxDocument = 64 << 20
)

// Manifest says what an archive is of.
type Manifest struct {
	Format     int               `json:"format"`
	Cluster    string            `json:"cluster"`
	TakenAt    time.Time         `json:"takenAt"`
	Kubernetes string            `json:"kubernetes"`
	SHA256     map[string]string `json:"sha256"` // of each file
}

// member is a file of an archive, with its content or where that is.
type member struct {
	name    string
	path    string
	content []byte
}

// pack writes an archive to path and returns its size.
func pack(path string, key *Key, manifest Manifest, files []member) (size int64, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write archive: %w", err)
	}
	defer file.Close()
	sealed, err := key.seal(file)
	if err != nil {
		return 0, err
	}
	compressed, err := zstd.NewWriter(sealed)
	if err != nil {
		return 0, fmt.Errorf("write archive: %w", err)
	}
	archive := tar.NewWriter(compressed)
	manifest.Format, manifest.SHA256 = format, map[string]string{}
	for _, f := range files {
		if manifest.SHA256[f.name], err = addMember(archive, f); err != nil {
			return 0, err
		}
	}
	document, err := json.Marshal(manifest)
	if err != nil {
		return 0, fmt.Errorf("encode manifest: %w", err)
	}
	if _, err := addMember(archive, member{name: manifestFile, content: document}); err != nil {
		return 0, err
	}
	for _, closer := range []io.Closer{archive, compressed, sealed} {
		if err := closer.Close(); err != nil {
			return 0, fmt.Errorf("write archive: %w", err)
		}
	}
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("write archive: %w", err)
	}
	return info.Size(), nil
}

func addMember(archive *tar.Writer, f member) (sum string, err error) {
	var source io.Reader = bytes.NewReader(f.content)
	size := int64(len(f.content))
	if f.path != "" {
		file, err := os.Open(f.path)
		if err != nil {
			return "", fmt.Errorf("write archive: %w", err)
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return "", fmt.Errorf("write archive: %w", err)
		}
		source, size = file, info.Size()
	}
	if err := archive.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: size, Typeflag: tar.TypeReg}); err != nil {
		return "", fmt.Errorf("write archive: %s: %w", f.name, err)
	}
	digest := sha256.New()
	if _, err := io.Copy(io.MultiWriter(archive, digest), source); err != nil {
		return "", fmt.Errorf("write archive: %s: %w", f.name, err)
	}
	return hexSum(digest), nil
}

// errDamaged says that an archive is not what was written.
var errDamaged = errors.New("the archive is damaged")

// unpack reads an archive to its end, checks it, and lays its files out in dir; with dir
// empty it only checks. What it laid out is of no use when it returns an error.
func unpack(stream io.Reader, key *Key, dir string) (Manifest, error) {
	opened, err := key.open(stream)
	if err != nil {
		return Manifest{}, err
	}
	compressed, err := zstd.NewReader(opened)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer compressed.Close()
	archive, sums := tar.NewReader(compressed), map[string]string{}
	var manifest Manifest
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if header.Name == manifestFile {
			if err := json.NewDecoder(io.LimitReader(archive, maxDocument)).Decode(&manifest); err != nil {
				return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
			}
			continue
		}
		if sums[header.Name], err = extract(archive, header.Name, dir); err != nil {
			return Manifest{}, err
		}
	}
	// The tar file ends before the encryption does, which says whether it is whole.
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if manifest.Format != format {
		return Manifest{}, fmt.Errorf("%w: format %d, want %d", errDamaged, manifest.Format, format)
	}
	if !maps.Equal(sums, manifest.SHA256) || !registry.ValidName(manifest.Cluster) {
		return Manifest{}, fmt.Errorf("%w: its files are not those of its manifest", errDamaged)
	}
	return manifest, nil
}

// extract writes one file below dir, and nothing that an archive of ours would not hold.
func extract(source io.Reader, name, dir string) (sum string, err error) {
	base, isKey := strings.CutPrefix(name, keyPrefix)
	if name != registryFile && name != snapshotFile && (!isKey || base != filepath.Base(base) || !filepath.IsLocal(base)) {
		return "", fmt.Errorf("%w: unexpected file %q", errDamaged, name)
	}
	digest := sha256.New()
	source = io.TeeReader(source, digest)
	if dir == "" {
		_, err = io.Copy(io.Discard, source)
	} else {
		err = copyTo(filepath.Join(dir, name), source)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errDamaged, name, err)
	}
	return hexSum(digest), nil
}

// copyTo writes a file, and the directory it is in, for their owner only.
func copyTo(path string, source io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := io.Copy(file, source); err != nil {
		return err
	}
	return file.Sync()
}

func encodeSaved(saved registry.Saved) ([]byte, error) {
	document, err := json.Marshal(saved)
	if err != nil {
		return nil, fmt.Errorf("encode the registry's documents: %w", err)
	}
	return document, nil
}

func readSaved(path string) (registry.Saved, error) {
	var saved registry.Saved
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &saved)
	}
	if err != nil {
		return registry.Saved{}, fmt.Errorf("read the registry's documents: %w", err)
	}
	return saved, nil
}

func hexSum(digest hash.Hash) string { return hex.EncodeToString(digest.Sum(nil)) }
