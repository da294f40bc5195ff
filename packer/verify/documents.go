package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/sbom"
)

const (
	diskName  = "disk.raw" // as the provenance calls the disk, whatever its file is called now
	documents = "usr/lib/ovenbird"
	maxText   = 64 << 20
	bakeAgain = "take the files that were baked together, or bake again"
)

// checkProvenance reads the statement beside the disk.
func (v *verification) checkProvenance(context.Context) (string, error) {
	text, err := readFile(v.beside(attest.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault{"there is no " + attest.FileName + " beside the disk: nothing says where it comes from", "fetch the files that the bake has put beside the disk; a disk of another tool has none"}
	}
	if err != nil {
		return "", err
	}
	if v.statement, err = attest.Read(text); err != nil {
		return "", fault{fmt.Sprintf("%s cannot be read: %v", attest.FileName, err), bakeAgain}
	}
	v.documents[attest.FileName] = text
	d := v.statement.Predicate.BuildDefinition
	return fmt.Sprintf("baked by packer-plugin-ovenbird %s (%s) of %d things", v.statement.Predicate.RunDetails.Builder.Version["packer-plugin-ovenbird"],
		v.statement.Predicate.RunDetails.Builder.Version["commit"], len(d.ResolvedDependencies)), nil
}

// checkSignature checks who has signed the statement.
func (v *verification) checkSignature(context.Context) (string, error) {
	signature, err := readFile(v.beside(attest.SignatureName))
	signed := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if v.Key == "" {
		if signed {
			return "", skip("there is one; --key PUBLIC-KEY checks whose it is")
		}
		return "", skip("there is none: anybody could have written the provenance")
	}
	key, err := attest.ReadPublicKey(v.Key)
	if err != nil {
		return "", fault{err.Error(), "give --key the public half of the key that the template's signing_key names"}
	}
	if !signed {
		return "", fault{"there is no " + attest.SignatureName + " beside the disk, though --key wants one", "bake with signing_key, or fetch the signature"}
	}
	text, ok := v.documents[attest.FileName]
	if !ok {
		return "", skip("there is no provenance that it could be of")
	}
	if err := attest.Verify(key, text, signature); err != nil {
		return "", fault{fmt.Sprintf("%s is not signed with %s: %v", attest.FileName, v.Key, err), "do not use the disk, unless you know why"}
	}
	return "of the owner of " + v.Key, nil
}

// vouched reads a file beside the disk that the provenance has the hash of.
func (v *verification) vouched(name string) ([]byte, error) {
	text, err := readFile(v.beside(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault{"there is no " + name + " beside the disk", "fetch the files that the bake has put beside the disk"}
	}
	if err != nil {
		return nil, err
	}
	want := v.statement.SHA256(name)
	if want == "" {
		return nil, skip("no provenance vouches for " + name)
	}
	if got := digest(text); got != want {
		return nil, fault{fmt.Sprintf("%s was changed after the bake: its SHA-256 is %s, and the provenance says %s", name, got, want), bakeAgain}
	}
	v.documents[name] = text
	return text, nil
}

func (v *verification) checkLock(context.Context) (string, error) {
	text, err := v.vouched(lock.FileName)
	if err != nil {
		return "", err
	}
	l, err := lock.Decode(text)
	if err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", lock.FileName, err)
	}
	for _, r := range v.statement.Predicate.BuildDefinition.ResolvedDependencies {
		if r.Name == lock.FileName && r.Digest["sha256"] != digest(text) {
			return "", fault{"the provenance is of a bake from another lock", bakeAgain}
		}
	}
	v.lock = &l
	return fmt.Sprintf("%d Debian packages of %s, %d components, %d container images", len(l.Installed()), l.Epoch.Format("2006-01-02"), len(l.Components), len(l.Images)), nil
}

// checkSBOM holds the list of what is in the image against the lock.
func (v *verification) checkSBOM(context.Context) (string, error) {
	text, err := v.vouched(sbom.FileName)
	if err != nil {
		return "", err
	}
	var list spdx.Document
	if err := json.Unmarshal(text, &list); err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", sbom.FileName, err)
	}
	listed := map[string]bool{}
	debian := 0
	v.listed = map[string]string{}
	for _, p := range list.Packages {
		if p.PackageFileName != "" && len(p.PackageChecksums) > 0 {
			v.listed[p.PackageFileName] = p.PackageChecksums[0].Value
		}
		for _, r := range p.PackageExternalReferences {
			listed[r.Locator] = true
			if strings.HasPrefix(r.Locator, "pkg:deb/") {
				debian++
			}
		}
	}
	if v.lock == nil {
		return fmt.Sprintf("%d packages and modules", len(listed)), nil
	}
	installed := v.lock.Installed()
	for _, p := range installed {
		if !listed[sbom.DebianURL(p)] {
			return "", fault{fmt.Sprintf("%s does not list %s %s, which the lock has", sbom.FileName, p.Name, p.Version), bakeAgain}
		}
	}
	if debian != len(installed) {
		return "", fault{fmt.Sprintf("%s lists %d Debian packages, and the lock has %d", sbom.FileName, debian, len(installed)), bakeAgain}
	}
	for _, i := range v.lock.Images {
		for _, name := range i.Names {
			if !listed[sbom.ImageURL(name, i.Digest)] {
				return "", fault{fmt.Sprintf("%s does not list the container image %s, which the lock has", sbom.FileName, name), bakeAgain}
			}
		}
	}
	return fmt.Sprintf("%d packages and modules, those of the lock among them", len(listed)), nil
}

// checkDocuments holds what the image says about itself against what lies beside it.
func (v *verification) checkDocuments(context.Context) (string, error) {
	if v.root == nil {
		return "", skip("the root file system cannot be read")
	}
	var same []string
	for _, name := range []string{lock.FileName, sbom.FileName} {
		inside, err := v.inside(path.Join(documents, name))
		if err != nil {
			return "", err
		}
		outside, ok := v.documents[name]
		if !ok {
			continue
		}
		if !bytes.Equal(inside, outside) {
			return "", fault{fmt.Sprintf("/%s/%s in the image is not the %s beside it", documents, name, name), bakeAgain}
		}
		same = append(same, name)
	}
	text, err := v.inside(path.Join(documents, attest.FileName))
	if err != nil {
		return "", err
	}
	statement, err := attest.Read(text)
	if err != nil {
		return "", fmt.Errorf("/%s/%s in the image cannot be read: %w", documents, attest.FileName, err)
	}
	for _, name := range same {
		if statement.SHA256(name) != digest(v.documents[name]) {
			return "", fault{fmt.Sprintf("the provenance in the image is about another %s", name), bakeAgain}
		}
	}
	if len(same) == 0 {
		return "", skip("there is no file beside the disk to hold them against")
	}
	return strings.Join(same, " and ") + " as beside the disk, and provenance of them", nil
}

// checkPrograms holds the programs of the components against the lock, and those that the
// SBOM lists, in container images too, against that.
func (v *verification) checkPrograms(ctx context.Context) (string, error) {
	if v.root == nil {
		return "", skip("the root file system cannot be read")
	}
	if v.layout.hashes.size == 0 {
		// go-diskfs takes files with holes for shorter ones, so that it cannot tell.
		return "", skip("they lie in an ext4 root: only the SHA-256 of the whole disk vouches for them")
	}
	if v.lock == nil && v.listed == nil {
		return "", skip("there is no lock and no SBOM that say what they must be")
	}
	locked := 0
	if v.lock != nil {
		for _, c := range v.lock.Components {
			for _, p := range c.Programs {
				if p.Path == "" {
					continue
				}
				locked++
				if err := v.checkProgram(ctx, p.Path, p.SHA256, "the lock"); err != nil {
					return "", err
				}
			}
		}
	}
	data := 0
	for _, name := range slices.Sorted(maps.Keys(v.listed)) {
		// The root has nothing below /var: that is the partition which nodes write.
		if strings.HasPrefix(name, "/var/") {
			data++
			continue
		}
		if err := v.checkProgram(ctx, name, v.listed[name], "the SBOM"); err != nil {
			return "", err
		}
	}
	said := fmt.Sprintf("%d of the lock and %d of the SBOM, each as said there", locked, len(v.listed)-data)
	if data > 0 {
		said += fmt.Sprintf("; for %d in /var only the SHA-256 of the whole disk vouches", data)
	}
	return said, nil
}

// checkProgram holds a program against a hash that a document has for it.
func (v *verification) checkProgram(ctx context.Context, name, want, document string) error {
	at := sbom.Location(name)
	got, err := v.hashInside(ctx, at)
	if missing := new(fs.PathError); errors.As(err, &missing) {
		return fault{fmt.Sprintf("the image has no %s, which %s names: %v", name, document, err), bakeAgain}
	}
	if err != nil {
		return fmt.Errorf("read /%s in the image: %w", at, err)
	}
	if got != want {
		return fault{fmt.Sprintf("%s in the image has the SHA-256 %s, and %s says %s", name, got, document, want), bakeAgain}
	}
	return nil
}

// inside reads a file of the image.
func (v *verification) inside(name string) ([]byte, error) {
	f, err := v.root.Open(name)
	if err != nil {
		return nil, fault{fmt.Sprintf("the image has no /%s that can be read: %v", name, err), "the image was baked by an older plugin, or by another tool: bake again"}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return nil, fmt.Errorf("read /%s in the image: %w", name, err)
	}
	return text, nil
}

// hashInside hashes a file of the image, each once.
func (v *verification) hashInside(ctx context.Context, name string) (string, error) {
	if sum, ok := v.hashed[name]; ok {
		return sum, nil
	}
	f, err := v.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, reader{ctx, f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	v.hashed[name] = hex.EncodeToString(hash.Sum(nil))
	return v.hashed[name], nil
}

// reader stops when its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no other place for it
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxText))
}
