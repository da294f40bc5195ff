package iam_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"

	"github.com/ovenbird-dev/ovenbird/control-plane/kubetest"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// TestKubeletGetsACertificateByTokenWhenItsOwnHasEnded runs the real kubelet as far as it
// comes without a container runtime, with the kubeconfigs of a node.
func TestKubeletGetsACertificateByTokenWhenItsOwnHasEnded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("kubelet wants to be root")
	}
	binary := kubetest.Program(t, "kubelet")
	p := open(t)
	p.attend(t)
	kubetest.Signer(t, p.admin, pki.NodeLifetime)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		if err := os.WriteFile(in(name), data, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ended := endedPair(t)
	write("kubelet-client-old.pem", ended)
	if err := os.Symlink("kubelet-client-old.pem", in("kubelet-client-current.pem")); err != nil {
		t.Fatal(err)
	}
	write("token", fmt.Appendf(nil, `#!/bin/sh
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
`, p.token(t, nodeARN(1), "kitchen")))
	kubeconfig(t, in("kubeconfig"), p.admin, &api.AuthInfo{ClientCertificate: in("kubelet-client-current.pem"), ClientKey: in("kubelet-client-current.pem")})
	kubeconfig(t, in("bootstrap"), p.admin, &api.AuthInfo{Exec: &api.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: in("token"), InteractiveMode: api.NeverExecInteractiveMode,
	}})
	// A container runtime that never answers.
	socket, err := net.Listen("unix", in("cri.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	write("config.json", fmt.Appendf(nil, `{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","rotateCertificates":true,
		"protectKernelDefaults":true,"failSwapOn":false,"failCgroupV1":false,"containerRuntimeEndpoint":"unix://%s",
		"readOnlyPort":0,"healthzPort":0,"authentication":{"anonymous":{"enabled":false}},"authorization":{"mode":"AlwaysAllow"}}`, in("cri.sock")))
	log, err := os.Create(in("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "--kubeconfig="+in("kubeconfig"), "--bootstrap-kubeconfig="+in("bootstrap"), "--cert-dir="+dir, "--root-dir="+in("root"),
		"--config="+in("config.json"), "--hostname-override="+firstNode, "--v=3")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if data, _ := os.ReadFile(in("log")); t.Failed() {
			t.Logf("%s", data)
		}
	})
	eventually(t, 60*time.Second, func(context.Context) error {
		target, err := os.Readlink(in("kubelet-client-current.pem"))
		if err == nil && filepath.Base(target) == "kubelet-client-old.pem" {
			err = errors.New("the old certificate is still in use")
		}
		return err
	})
}

// endedPair is a node's certificate, of whatever authority, that ended an hour ago.
func endedPair(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-25 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		Subject: pkix.Name{CommonName: "system:node:" + firstNode, Organization: []string{"system:nodes"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})...)
}

func kubeconfig(t *testing.T, path string, server *rest.Config, user *api.AuthInfo) {
	t.Helper()
	config := api.NewConfig()
	config.Clusters["c"] = &api.Cluster{Server: server.Host, CertificateAuthority: server.CAFile}
	config.AuthInfos["u"], config.Contexts["c"], config.CurrentContext = user, &api.Context{Cluster: "c", AuthInfo: "u"}, "c"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
}
