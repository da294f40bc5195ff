package image

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/inspect"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// stepInspect holds the finished root file system, and the command line with its root
// hash, against what a node must be. The build ends here when it is not, unless the
// template accepts that.
type stepInspect struct{ *bake }

// Run inspects the tree.
func (s *stepInspect) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	return s.step(state, "Inspecting the root file system", func() error { return s.inspect(ctx) })
}

func (s *stepInspect) inspect(ctx context.Context) error {
	rendered, err := s.render(ctx)
	if err != nil {
		return err
	}
	results, err := inspect.Run(inspect.Subject{
		Root:        s.root.Dir,
		CommandLine: s.commandLine(),
		Verity:      s.config.RootFilesystem == rootVerity,
		Masked:      maskedUnits,
		Rendered:    rendered,
	})
	if err != nil {
		return err
	}
	var exceptions []inspect.Exception
	for _, e := range s.config.Exceptions {
		exceptions = append(exceptions, inspect.Exception{Control: e.Control, Reason: e.Reason})
	}
	var unused []inspect.Exception
	s.controls, unused = inspect.Except(results, exceptions)
	for _, e := range unused {
		s.ui.Error(fmt.Sprintf("except: the image does not fail %s: remove the exception, which would hide a failure to come", e.Control))
	}
	if err := inspect.Failures(s.controls); err != nil {
		return err
	}
	s.usage, err = inspect.Measure(s.root.Dir, largest)
	return err
}

// largest is how many of the largest things the report names.
const largest = 20

// render has the tree's own agent write what it writes at boot, and returns the directory
// with it. A tree without an agent gives none.
func (s *stepInspect) render(ctx context.Context) (string, error) {
	const agent = "usr/bin/ovenbird-agent"
	if _, err := os.Stat(filepath.Join(s.root.Dir, agent)); os.IsNotExist(err) {
		return "", nil
	}
	dir := s.file("rendered")
	if err := os.MkdirAll(filepath.Join(dir, "etc/ovenbird"), 0o755); err != nil { //nolint:gosec // as on any system
		return "", fmt.Errorf("render a node's configuration: %w", err)
	}
	userData, err := exampleUserData()
	if err != nil {
		return "", err
	}
	release, err := os.ReadFile(filepath.Join(s.root.Dir, "etc/ovenbird/release.json"))
	if err != nil {
		return "", fmt.Errorf("render a node's configuration: %w", err)
	}
	for name, content := range map[string][]byte{"user-data": userData, "etc/ovenbird/release.json": release} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { //nolint:gosec // an example
			return "", fmt.Errorf("render a node's configuration: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	const place = "/mnt"
	cmd := s.root.Command(ctx, []tree.Bind{{Source: dir, Target: place}}, "/"+agent, "init", "--root", place, "--user-data", place+"/user-data")
	return dir, run(ctx, cmd, "render a node's configuration with the image's own agent")
}

// exampleUserData joins a cluster that does not exist, with a certificate authority that
// signs nothing: its key is forgotten here.
func exampleUserData() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an example cluster: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make an example cluster: %w", err)
	}
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	return fmt.Appendf(nil, `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: example
    apiServerEndpoint: https://example.invalid
    certificateAuthority: %s
    cidr: 10.100.0.0/16
`, ca), nil
}

// Cleanup has nothing to undo: the report is written with the disk.
func (s *stepInspect) Cleanup(multistep.StateBag) {}
