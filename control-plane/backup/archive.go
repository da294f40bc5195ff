package backup

import (
	"archive/tar"
	"bytes"
	"context"
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
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// format changes when archives of before cannot be read any more.
const format = 1

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
	if err := addManifest(archive, key, manifest); err != nil {
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

// addManifest comes last, so that an archive that has a manifest is complete.
func addManifest(archive *tar.Writer, key *Key, manifest Manifest) error {
	if err := checkNeeded(manifest.SHA256); err != nil {
		return err
	}
	document, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	if _, err := addMember(archive, member{name: manifestFile, content: document}); err != nil || key == nil {
		return err
	}
	_, err = addMember(archive, member{name: signatureFile, content: key.sign(document)})
	return err
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
	compressed, err := zstd.NewReader(opened, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer compressed.Close()
	found, err := extractAll(tar.NewReader(compressed), dir)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	// The tar file ends before the encryption does, which says whether it is whole.
	n, err := io.Copy(io.Discard, io.LimitReader(compressed, 1))
	if err == nil && n > 0 {
		err = errors.New("there is more after its end")
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	manifest, err := found.check(key)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return manifest, nil
}

// contents are what was found in an archive.
type contents struct {
	sums                map[string]string // of each file
	manifest, signature []byte
}

// extractAll writes the files of an archive below dir, and nothing that an archive of ours
// would not hold.
func extractAll(archive *tar.Reader, dir string) (contents, error) {
	found, seen := contents{sums: map[string]string{}}, map[string]bool{}
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		name := header.Name
		switch most, ok := limit(name); {
		case !ok || header.Typeflag != tar.TypeReg:
			return found, fmt.Errorf("unexpected file %q", name)
		case header.Size > most:
			return found, fmt.Errorf("%s has %d bytes, more than the %d it may have", name, header.Size, most)
		case seen[name]:
			return found, fmt.Errorf("%s is there twice", name)
		case len(seen) == maxMembers:
			return found, fmt.Errorf("it has more than %d files", maxMembers)
		}
		seen[name] = true
		switch name {
		case manifestFile:
			found.manifest, err = io.ReadAll(archive)
		case signatureFile:
			found.signature, err = io.ReadAll(archive)
		default:
			found.sums[name], err = extract(archive, name, dir)
		}
		if err != nil {
			return found, fmt.Errorf("%s: %w", name, err)
		}
	}
}

func extract(source io.Reader, name, dir string) (sum string, err error) {
	digest := sha256.New()
	source = io.TeeReader(source, digest)
	if dir == "" {
		_, err = io.Copy(io.Discard, source)
	} else {
		err = copyTo(filepath.Join(dir, name), source)
	}
	return hexSum(digest), err
}

// check tells whether an archive is whole, and written by one who has the key.
func (c contents) check(key *Key) (Manifest, error) {
	if !key.signed(c.manifest, c.signature) {
		return Manifest{}, errors.New("its manifest is not signed with this key")
	}
	var manifest Manifest
	if err := json.Unmarshal(c.manifest, &manifest); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if manifest.Format != format {
		return Manifest{}, fmt.Errorf("format %d, want %d", manifest.Format, format)
	}
	if !maps.Equal(c.sums, manifest.SHA256) || !registry.ValidName(manifest.Cluster) {
		return Manifest{}, errors.New("its files are not those of its manifest")
	}
	return manifest, checkNeeded(c.sums)
}

// readArchive unpacks an archive of a place, and holds it to its name.
func readArchive(ctx context.Context, place Place, archive string, key *Key, dir string) (Manifest, error) {
	stream, err := place.Open(ctx, archive)
	if err != nil {
		return Manifest{}, err
	}
	defer stream.Close()
	manifest, err := unpack(stream, key, dir)
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", archive, err)
	}
	if is := archiveName(manifest.Cluster, manifest.TakenAt); is != archive {
		return Manifest{}, fmt.Errorf("read %s: %w: it is %s by its manifest", archive, errDamaged, is)
	}
	return manifest, nil
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
