package attest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

var (
	sumA, sumB, sumC = strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)

	fixture = lock.Lock{
		Suite: "trixie", Architecture: "amd64", Epoch: time.Unix(1_700_000_000, 0),
		Options:    lock.Options{DiskSize: 6 << 30, RootFilesystem: "verity", KernelArguments: []string{"quiet"}},
		Plugin:     lock.Plugin{Version: "0.1.0", Commit: "abc"},
		Machine:    []lock.Package{{Name: "tool", Version: "1+b1", Architecture: "amd64", SHA256: sumA}},
		Tools:      []lock.Package{{Name: "tool", Version: "1+b1", Architecture: "amd64", SHA256: sumA}, {Name: "mkfs", Version: "2", Architecture: "amd64", SHA256: sumB}},
		Components: []lock.Component{{Name: "runc", Version: "1.5.2", Programs: []lock.Program{{Name: "runc", Path: "/usr/bin/runc", SHA256: sumC}}}},
		Images:     []lock.Image{{Names: []string{"localhost/pause:1"}, Digest: "sha256:" + sumB}},
	}
)

func state(t *testing.T) []byte {
	t.Helper()
	text, err := State(fixture, sumC, []Exception{{"umask", "because"}}, File("disk.raw", sumA), File(lock.FileName, sumC))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOthersReadTheStatementAsWhatItIs(t *testing.T) {
	var statement intoto.Statement
	if err := protojson.Unmarshal(state(t), &statement); err != nil {
		t.Fatalf("in-toto's own reader refuses it: %v", err)
	}
	if err := statement.Validate(); err != nil {
		t.Errorf("the statement is not valid: %v", err)
	}
	predicate, err := protojson.Marshal(statement.GetPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var provenance slsa.Provenance
	if err := protojson.Unmarshal(predicate, &provenance); err != nil {
		t.Fatalf("SLSA's own reader refuses the predicate: %v", err)
	}
	if err := provenance.Validate(); err != nil {
		t.Errorf("the provenance is not valid: %v", err)
	}
	digests := map[string]string{}
	for _, r := range provenance.GetBuildDefinition().GetResolvedDependencies() {
		digests[r.GetName()+r.GetUri()] = r.GetDigest()["sha256"]
	}
	for name, want := range map[string]string{
		lock.FileName: sumC, "pkg:deb/debian/tool@1%2Bb1?arch=amd64&distro=debian-13": sumA,
		"pkg:deb/debian/mkfs@2?arch=amd64&distro=debian-13": sumB, "runc 1.5.2 runc": sumC, "container image localhost/pause:1": sumB,
	} {
		if digests[name] != want {
			t.Errorf("%s has the digest %q, want %q", name, digests[name], want)
		}
	}
	if len(digests) != 5 || len(provenance.GetBuildDefinition().GetResolvedDependencies()) != 5 {
		t.Errorf("the dependencies are %v", digests)
	}
}

func TestAStatementIsReadBack(t *testing.T) {
	s, err := Read(state(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.SHA256("disk.raw") != sumA || s.SHA256("nothing") != "" || !bytes.Equal(state(t), state(t)) {
		t.Errorf("read %+v", s)
	}
	for text, want := range map[string]string{
		"{": "not JSON", "{} {}": "something follows", `{"_type": "other"}`: "not an in-toto statement",
		strings.Replace(string(state(t)), buildType, "make", 1): `a build of type "make"`,
	} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: the error is %v, want %q", text, err, want)
		}
	}
}

// generate makes a key with openssl, and returns it and its public half.
func generate(t *testing.T, arguments ...string) (private, public string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key.pem"), filepath.Join(dir, "pub.pem")
	openssl(t, append(arguments, "-out", private)...)
	openssl(t, "pkey", "-in", private, "-pubout", "-out", public)
	if err := os.Chmod(private, 0o600); err != nil {
		t.Fatal(err)
	}
	return private, public
}

func openssl(t *testing.T, arguments ...string) {
	t.Helper()
	if said, err := exec.Command("openssl", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", arguments, err, said)
	}
}

var (
	pkcs8 = []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}
	sec1  = []string{"ecparam", "-name", "prime256v1", "-genkey"}
)

func TestOpenSSLVerifiesASignature(t *testing.T) {
	for name, arguments := range map[string][]string{"PKCS#8": pkcs8, "SEC 1 behind parameters": sec1} {
		t.Run(name, func(t *testing.T) {
			private, public := generate(t, arguments...)
			key, err := ReadKey(private)
			if err != nil {
				t.Fatal(err)
			}
			content := state(t)
			signature, err := Sign(key, content)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := Sign(key, content); !bytes.Equal(again, signature) {
				t.Error("two signatures of one content differ")
			}
			raw, err := base64.StdEncoding.DecodeString(string(signature))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file, sig := filepath.Join(dir, "content"), filepath.Join(dir, "sig")
			for name, bytes := range map[string][]byte{file: content, sig: raw} {
				if err := os.WriteFile(name, bytes, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			openssl(t, "dgst", "-sha256", "-verify", public, "-signature", sig, file)
		})
	}
}

func TestASignatureOfOpenSSLIsVerified(t *testing.T) {
	private, public := generate(t, pkcs8...)
	_, otherPublic := generate(t, pkcs8...)
	dir := t.TempDir()
	content, sig := filepath.Join(dir, "content"), filepath.Join(dir, "sig")
	if err := os.WriteFile(content, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "dgst", "-sha256", "-sign", private, "-out", sig, content)
	raw, err := os.ReadFile(sig)
	if err != nil {
		t.Fatal(err)
	}
	signature := []byte(base64.StdEncoding.EncodeToString(raw) + "\n")
	for name, test := range map[string]struct {
		key, content string
		signature    []byte
		want         error
	}{
		"as it was signed":      {public, "content", signature, nil},
		"changed":               {public, "c0ntent", signature, ErrNotSigned},
		"with another key":      {otherPublic, "content", signature, ErrNotSigned},
		"without base64":        {public, "content", raw, ErrMalformed},
		"an empty signature":    {public, "content", nil, ErrMalformed},
		"a shortened signature": {public, "content", signature[:40], ErrNotSigned},
	} {
		key, err := ReadPublicKey(test.key)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(key, []byte(test.content), test.signature); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestAKeyThatMustNotSignIsRefused(t *testing.T) {
	good, public := generate(t, pkcs8...)
	readable, _ := generate(t, pkcs8...)
	if err := os.Chmod(readable, 0o640); err != nil {
		t.Fatal(err)
	}
	otherCurve, _ := generate(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384")
	rsa, _ := generate(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	encrypted := filepath.Join(t.TempDir(), "encrypted.pem")
	openssl(t, "pkcs8", "-topk8", "-in", good, "-passout", "pass:secret", "-out", encrypted)
	if err := os.Chmod(public, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		readable: "others can read " + readable + ", its mode is 640", otherCurve: "not an elliptic curve key on P-256", rsa: "not an elliptic curve key on P-256",
		encrypted: "it is encrypted", public: "holds no private key", filepath.Dir(good): "is not a file", good + ".absent": "no such file",
	} {
		_, err := ReadKey(file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", filepath.Base(file), err, want)
		}
		if content, _ := os.ReadFile(file); err != nil && len(content) > 100 && strings.Contains(err.Error(), string(content[60:80])) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if _, err := ReadPublicKey(good); err == nil || !strings.Contains(err.Error(), "holds no public key") {
		t.Errorf("a private key was taken for a public one: %v", err)
	}
}
