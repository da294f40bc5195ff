package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/inspect"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

func TestAControlThatFailsEndsTheBuildUnlessTheTemplateAcceptsIt(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"usr/sbin/sshd": "", "etc/login.defs": "UMASK 027\n"})
	ui := &packersdk.MockUi{}
	s := &stepInspect{&bake{config: &Config{RootFilesystem: rootVerity}, ui: ui, root: tree.Tree{Dir: root}}}
	err := s.inspect(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no-ssh-server: There is no SSH server") || !strings.Contains(err.Error(), "found /usr/sbin/sshd") {
		t.Fatalf("the error is %v", err)
	}
	for _, r := range s.controls {
		if r.Outcome == inspect.Failed {
			s.config.Exceptions = append(s.config.Exceptions, Except{Control: r.ID, Reason: "a test"})
		}
	}
	s.config.Exceptions = append(s.config.Exceptions, Except{Control: "umask", Reason: "in vain"})
	if err := s.inspect(t.Context()); err != nil {
		t.Errorf("accepted failures end the build: %v", err)
	}
	if !strings.Contains(ui.ErrorMessage, "the image does not fail umask: remove the exception") {
		t.Errorf("of an exception that nothing needs it said %q", ui.ErrorMessage)
	}
}

func TestTheExampleClusterIsOneThatTheAgentTakes(t *testing.T) {
	one, err := exampleUserData()
	if err != nil || !strings.Contains(string(one), "certificateAuthority: LS0tLS1CRUdJTiBDRVJUSUZJQ0FUR") {
		t.Errorf("%v:\n%s", err, one)
	}
}

func TestATreeWithoutAnAgentIsRenderedByNobody(t *testing.T) {
	s := &stepInspect{&bake{config: &Config{}, root: tree.Tree{Dir: t.TempDir()}, work: t.TempDir()}}
	if dir, err := s.render(t.Context()); dir != "" || err != nil {
		t.Errorf("got %q, %v", dir, err)
	}
	if left := below(t, s.work); len(left) > 0 {
		t.Errorf("made %v", left)
	}
}

func TestAnAgentThatFailsEndsTheBuild(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	s := &stepInspect{&bake{config: &Config{}, root: tree.Tree{Dir: t.TempDir()}, work: t.TempDir()}}
	write(t, s.root.Dir, map[string]string{"usr/bin/ovenbird-agent": "", "etc/ovenbird/release.json": "{}"})
	if _, err := s.render(t.Context()); err == nil || !strings.Contains(err.Error(), "render a node's configuration with the image's own agent") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.work, "rendered", "etc/ovenbird/release.json")); err != nil {
		t.Errorf("the agent was not told what the image is: %v", err)
	}
}
