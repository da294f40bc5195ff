package image

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/inspect"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// describedBake is a bake whose disk is made, in directories of its own.
func describedBake(t *testing.T, key string) *bake {
	t.Helper()
	b := &bake{
		config: &Config{OutputDirectory: t.TempDir(), RootFilesystem: rootExt4, SigningKey: key, diskBytes: mib},
		ui:     packersdk.TestUi(t), work: t.TempDir(),
		lock:      lock.Lock{Suite: suite, Architecture: "amd64", Epoch: time.Unix(1_700_000_000, 0)},
		controls:  []inspect.Result{{ID: "umask", Outcome: inspect.Passed}},
		published: []string{"ovenbird.lock.json", "sbom.spdx.json"},
	}
	write(t, b.work, map[string]string{diskName: "the disk", ukiFile: "uki", "ovenbird.lock.json": "the lock", "sbom.spdx.json": "the SBOM"})
	return b
}

// finish describes the disk and publishes it.
func finish(t *testing.T, b *bake) {
	t.Helper()
	state := new(multistep.BasicStateBag)
	for _, step := range []multistep.Step{&stepAttest{b}, &stepPublish{b}} {
		if action := step.Run(t.Context(), state); action != multistep.ActionContinue {
			t.Fatalf("%T: %v", step, state.Get("error"))
		}
	}
}

func TestWhatATemplateAcceptsIsBesideTheDiskOnly(t *testing.T) {
	inImage := map[string][]byte{}
	for _, reason := range []string{"the first", "the second"} {
		b := describedBake(t, "")
		b.config.Exceptions = []Except{{Control: "umask", Reason: reason}}
		b.root.Dir = t.TempDir()
		write(t, b.root.Dir, map[string]string{documentsDirectory + "/" + lock.FileName: "the lock"})
		state := new(multistep.BasicStateBag)
		if action := (&stepProvenance{b}).Run(t.Context(), state); action != multistep.ActionContinue {
			t.Fatal(state.Get("error"))
		}
		inImage[reason], _ = os.ReadFile(filepath.Join(b.root.Dir, documentsDirectory, attest.FileName))
		finish(t, b)
		if beside, err := os.ReadFile(filepath.Join(b.config.OutputDirectory, attest.FileName)); !bytes.Contains(beside, []byte(reason)) {
			t.Errorf("the provenance beside the disk does not name the exception: %s, %v", beside, err)
		}
	}
	if first := inImage["the first"]; len(first) == 0 || !bytes.Equal(first, inImage["the second"]) {
		t.Errorf("the image depends on what the template accepts: %s", first)
	}
}

func TestTwoBakesOfOneLockSayTheSame(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	one, two := describedBake(t, key), describedBake(t, key)
	finish(t, one)
	finish(t, two)
	for _, name := range []string{attest.FileName, attest.SignatureName, reportJSON, reportText, diskName, "ovenbird.lock.json", "sbom.spdx.json"} {
		first, err := os.ReadFile(filepath.Join(one.config.OutputDirectory, name))
		if err != nil {
			t.Error(err)
		}
		second, _ := os.ReadFile(filepath.Join(two.config.OutputDirectory, name))
		if !bytes.Equal(first, second) || bytes.Contains(first, []byte(one.work)) || bytes.Contains(first, []byte(one.config.OutputDirectory)) {
			t.Errorf("%s depends on where it is made", name)
		}
		if bytes.Contains(first, der) || strings.Contains(string(first), "PRIVATE") {
			t.Errorf("%s holds the key", name)
		}
	}
	files := one.artifact(nil).Files()
	if len(files) != 7 || files[0] != filepath.Join(one.config.OutputDirectory, diskName) {
		t.Errorf("the artifact lists %v", files)
	}
}

func TestADiskThatIsNotSignedKeepsNoSignatureOfAnEarlierOne(t *testing.T) {
	b := describedBake(t, "")
	write(t, b.config.OutputDirectory, map[string]string{attest.SignatureName: "old"})
	finish(t, b)
	if _, err := os.Stat(filepath.Join(b.config.OutputDirectory, attest.SignatureName)); !os.IsNotExist(err) {
		t.Errorf("the signature is left: %v", err)
	}
}
