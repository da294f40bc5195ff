package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/packer/node"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
	"github.com/ovenbird-dev/ovenbird/test/debian"
)

// addUser makes the user admin, as Debian's AMIs have it, with the public key $1. Its umask
// is a hardened machine's, which must not reach the node's files.
const addUser = `set -eu
useradd --create-home --shell /bin/bash admin
echo 'umask 077' >/home/admin/.bashrc
mkdir -m 700 /home/admin/.ssh
echo "$1" >/home/admin/.ssh/authorized_keys
chown -R admin: /home/admin
echo 'admin ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
chmod 440 /etc/sudoers.d/admin
`

// sshMachine is an instance of the lab that answers SSH.
type sshMachine struct {
	id, address string
	key         ed25519.PrivateKey // admin's
	host        ssh.PublicKey      // the machine's own
}

// checkSSH makes a node of a running Debian machine, as users of amazon-ebs do: Packer's
// SSH, and a user with sudo.
func checkSSH(t *testing.T, l *lab, pinned map[string]string) {
	machine := startDebian(t, l)
	agentSocket := serveAgent(t, machine.key)
	l.ctl(t, 15*time.Minute, "exec", "--",
		"env", "SSH_AUTH_SOCK="+agentSocket, "scripts/packer", "build", "-color=false", "-var", "host="+machine.address, "packer/examples/node.pkr.hcl")

	client := machine.dial(t, l)
	for _, check := range []struct{ name, command, want string }{
		{"kubelet is the pinned one", "kubelet --version", "Kubernetes v" + pinned["kubernetes"]},
		{"containerd is the pinned one", "containerd --version | cut -d ' ' -f 3", "v" + pinned["containerd"]},
		{"the agent starts at boot", "systemctl is-enabled ovenbird-agent.service", "enabled"},
		{"root owns the node's files, and everyone may read what has no secrets",
			`stat -c '%a %U:%G %n' /etc/ovenbird /etc/ovenbird/release.json /etc/kubernetes/pki /opt/cni/bin /opt/cni/bin/bridge \
			/usr/bin/kubelet /usr/lib/systemd/system/ovenbird-agent.service /var/lib/kubelet`,
			`755 root:root /etc/ovenbird
644 root:root /etc/ovenbird/release.json
755 root:root /etc/kubernetes/pki
755 root:root /opt/cni/bin
755 root:root /opt/cni/bin/bridge
755 root:root /usr/bin/kubelet
644 root:root /usr/lib/systemd/system/ovenbird-agent.service
750 root:root /var/lib/kubelet`},
		{"directories that were there are as they were", "stat -c '%a %U:%G %n' / /etc /usr /usr/bin /var/lib", `755 root:root /
755 root:root /etc
755 root:root /usr
755 root:root /usr/bin
755 root:root /var/lib`},
		{"nothing is left of the installation", "sudo find /tmp /run /var/tmp /home -iname '*ovenbird*' -o -iname '*packer*'", ""},
		{"containerd has the container images", "sudo systemctl start containerd.service && sudo ctr --namespace k8s.io images ls -q | grep ^localhost/ | sort",
			strings.Join([]string{
				"localhost/ovenbird/busybox:1.37.0", "localhost/ovenbird/busybox:latest", "localhost/ovenbird/coredns:v" + pinned["coredns"],
				"localhost/ovenbird/kube-proxy:v" + pinned["kubernetes"], "localhost/ovenbird/pause:" + pinned["kubernetes"],
			}, "\n")},
		{"a container of one of them runs", "sudo ctr --namespace k8s.io run --rm localhost/ovenbird/busybox:latest proof stat -c %a /bin /tmp", "755\n1777"},
	} {
		if got := command(t, client, check.command); got != check.want {
			t.Errorf("%s: `%s` says\n%s\nwant\n%s", check.name, check.command, got, check.want)
		}
	}
	l.ctl(t, 3*time.Minute, "terminate-instances", "--wait", machine.id)
}

// startDebian starts an instance of plain Debian that lacks nothing but ovenbird-node.
func startDebian(t *testing.T, l *lab) sshMachine {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	machine := sshMachine{key: key}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	disk := filepath.Join(t.TempDir(), "debian.raw")
	err = debian.Machine{
		Packages: slices.Concat([]string{"openssh-server", "sudo"}, node.DebianPackages()),
		Size:     3 << 30,
		Provision: func(ctx context.Context, root tree.Tree) error {
			add := root.Command(ctx, nil, "sh", "-c", addUser, "add", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(admin))))
			add.Stderr = os.Stderr
			if err := add.Run(); err != nil {
				return err
			}
			content, err := os.ReadFile(filepath.Join(root.Dir, "etc/ssh/ssh_host_ed25519_key.pub"))
			if err != nil {
				return err
			}
			machine.host, _, _, _, err = ssh.ParseAuthorizedKey(content)
			return err
		},
	}.Make(ctx, disk)
	if err != nil {
		t.Fatal(err)
	}
	l.ctl(t, 3*time.Minute, "up", "--image", disk)
	out := l.ctl(t, 3*time.Minute, "run-instances", "--output", "json")
	var launched []struct {
		ID      string `json:"instanceId"`
		Address string `json:"privateIpAddress"`
	}
	if err := json.Unmarshal([]byte(out), &launched); err != nil || len(launched) != 1 {
		t.Fatalf("want one instance, got %s (%v)", out, err)
	}
	machine.id, machine.address = launched[0].ID, launched[0].Address
	t.Cleanup(func() { // while the lab still has them
		if t.Failed() {
			l.keepLogs(t)
		}
	})
	return machine
}

// serveAgent is an SSH agent that holds a key.
func serveAgent(t *testing.T, key ed25519.PrivateKey) (socket string) {
	t.Helper()
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ssh-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keyring, conn) // until the client hangs up
			}()
		}
	}()
	return socket
}

// dial connects to the machine through the lab's network.
func (m sshMachine) dial(t *testing.T, l *lab) *ssh.Client {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(m.key)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(m.address, "22")
	var conn net.Conn
	if err := namespace.Do(l.name, func() (err error) {
		conn, err = net.DialTimeout("tcp", address, 10*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// All checks together take some seconds.
	if err := conn.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	connection, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(m.host), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(connection, channels, requests)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// command is what a command prints over SSH on standard output.
func command(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var stderr bytes.Buffer
	session.Stderr = &stderr
	out, err := session.Output(command)
	if err != nil {
		t.Errorf("`%s` over SSH: %v: %s", command, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}
