package cloudformation_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// commands are what the build runs.
func (s stack) commands(t *testing.T) string {
	t.Helper()
	var spec struct {
		Phases struct {
			Build struct{ Commands []string }
		}
	}
	source := s.properties("Bake")["Source"].(map[string]any)
	if err := yaml.Unmarshal([]byte(source["BuildSpec"].(string)), &spec); err != nil {
		t.Fatal(err)
	}
	return strings.Join(spec.Phases.Build.Commands, "\n")
}

func (s stack) environment() map[string]string {
	environment := map[string]string{"AWS_REGION": "eu-central-1"}
	for _, variable := range s.properties("Bake")["Environment"].(map[string]any)["EnvironmentVariables"].([]any) {
		v := variable.(map[string]any)
		environment[v["Name"].(string)] = v["Value"].(string)
	}
	return environment
}

// The commands run with programs in the place of apt-get, git, make and Packer that tell what they
// are called with.
func TestABuildFetchesBakesAndPublishes(t *testing.T) {
	tests := []struct {
		name      string
		given     map[string]string
		want, not []string
	}{
		{"of a repository", nil, []string{
			"git fetch --depth 1 https://github.com/ovenbird-dev/ovenbird.git main", "make components", "make build",
			"packer init packer/templates/node-ami.pkr.hcl", "region=eu-central-1", "kubernetes_version= ", "control_plane=false ", "copy_to=[] ", "share_with=[] ", "kms_keys={} ",
			"deprecate_at=180d", "image_channel=stable", "ssm_parameter=/ovenbird/stable/image_id packer/templates/node-ami.pkr.hcl",
		}, []string{"components --all"}},
		{"of an archive", map[string]string{"SourceObject": "sources/ovenbird.zip"}, []string{"make components", "packer build"}, []string{"git init", "git fetch"}},
		{"of a version", map[string]string{"KubernetesVersion": "1.36.3"}, []string{"make setup", "components --all", "kubernetes_version=1.36.3"}, []string{"make components"}},
		{"for control planes too", map[string]string{"ControlPlane": "true"}, []string{"control_plane=true "}, nil},
		{"for others", map[string]string{"CopyToRegions": "us-east-1,us-west-2", "ShareWithAccounts": "111122223333,444455556666"}, []string{
			`copy_to=["us-east-1", "us-west-2"]`, `share_with=["111122223333", "444455556666"]`,
		}, nil},
		{"encrypted", map[string]string{"KmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/0123abcd"}, []string{
			`kms_keys={"eu-central-1" = "arn:aws:kms:eu-central-1:111122223333:key/0123abcd"}`,
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := newStack(load(t, "image-pipeline.yaml"), tt.given)
			if err != nil {
				t.Fatal(err)
			}
			called := runBuild(t, s)
			for _, want := range tt.want {
				if !strings.Contains(called, want) {
					t.Errorf("nothing was called with %q:\n%s", want, called)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(called, not) {
					t.Errorf("%q was called:\n%s", not, called)
				}
			}
		})
	}
}

func runBuild(t *testing.T, s stack) string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, program := range []string{"bin/apt-get", "bin/git", "bin/make", "scripts/components", "scripts/packer", "source/scripts/components", "source/scripts/packer"} {
		script := "#!/bin/sh\necho \"$(basename \"$0\") $*\" >>" + log + "\n"
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, program)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("bash", "-c", s.commands(t))
	build.Dir = dir
	build.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH")}
	for name, value := range s.environment() {
		build.Env = append(build.Env, name+"="+value)
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	called, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return string(called)
}

func TestABuildSetsOnlyVariablesOfTheTemplate(t *testing.T) {
	source, err := os.ReadFile("../packer/templates/node-ami.pkr.hcl")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStack(load(t, "image-pipeline.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	commands := s.commands(t)
	set := regexp.MustCompile(`-var "([a-z_]+)=`).FindAllStringSubmatch(commands, -1)
	if len(set) < 8 {
		t.Errorf("only %d variables are set", len(set))
	}
	for _, match := range set {
		if !strings.Contains(string(source), "variable \""+match[1]+"\" {") {
			t.Errorf("the template has no variable %s", match[1])
		}
	}
	for _, match := range regexp.MustCompile(`\$([A-Z_]+)`).FindAllStringSubmatch(commands, -1) {
		if !slices.Contains(slices.Collect(maps.Keys(s.environment())), match[1]) {
			t.Errorf("nothing sets %s", match[1])
		}
	}
}
