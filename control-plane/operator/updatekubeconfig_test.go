package operator_test

import (
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const demoARN = "arn:aws:eks:us-west-2:111122223333:cluster/demo"

// active makes the cluster demo ACTIVE, with an authority that is always the same.
func active(t *testing.T) {
	t.Helper()
	r := service(t)
	createDemo(t)
	_, err := r.Change(t.Context(), "demo", func(c *registry.Cluster) error {
		c.Status = registry.Status{Phase: registry.PhaseActive, Endpoint: "https://10.0.0.10:6443", CertificateAuthority: []byte("PEM")}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdateKubeconfigAddsAClusterAndLosesNothing(t *testing.T) {
	active(t)
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_ENDPOINT_URL_STS", "https://aws.lab.internal")
	directory := t.TempDir()
	file, link := filepath.Join(directory, "real"), filepath.Join(directory, "config")
	copyFile(t, "testdata/before.yaml", file)
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	args := []string{"update-kubeconfig", "--name", "demo", "--kubeconfig", link, "--proxy-url", "http://127.0.0.1:3128", "--role-arn", "arn:aws:iam::111122223333:role/baker"}
	printed := must(t, append(args, "--dry-run")...)
	if out := must(t, args...); out != "Added new context "+demoARN+" to "+link+"\n" {
		t.Errorf("printed %q", out)
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil || string(data) != printed {
		t.Fatalf("%v: the dry run printed\n%s, written is\n%s", err, printed, data)
	}
	got := strings.ReplaceAll(string(data), own, "/usr/local/bin/ovenbird")
	const golden = "testdata/after.yaml"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || got != string(want) {
		t.Errorf("%v: differs from %s (go test -update rewrites it):\n%s", err, golden, got)
	}
	if out := must(t, append(args, "--alias", "kitchen", "-o", "json")...); !strings.Contains(out, `"context": "kitchen"`) || !strings.Contains(out, `"renewed": true`) {
		t.Errorf("the second time, printed %q", out)
	}
	if config, err := clientcmd.LoadFromFile(file); err != nil || config.CurrentContext != "kitchen" || len(config.Contexts) != 3 || len(config.Clusters) != 2 {
		t.Errorf("got %+v, %v", config, err)
	}
}

func TestUpdateKubeconfigChoosesTheFileAsTheAWSCLIDoes(t *testing.T) {
	active(t)
	directory := t.TempDir()
	first, second, third := filepath.Join(directory, "first"), filepath.Join(directory, "second"), filepath.Join(directory, "third")
	t.Setenv("KUBECONFIG", strings.Join([]string{"", first, second}, string(filepath.ListSeparator)))
	written := func(want string, args ...string) {
		t.Helper()
		var out struct{ File string }
		if err := json.Unmarshal([]byte(must(t, append([]string{"update-kubeconfig", "--name", "demo", "--output", "json"}, args...)...)), &out); err != nil || out.File != want {
			t.Errorf("got %+v, %v, want %s", out, err, want)
		}
	}
	copyFile(t, "testdata/before.yaml", first)
	written(first)
	if err := os.Rename(first, second); err != nil {
		t.Fatal(err)
	}
	written(second)
	written(third, "--kubeconfig", third)
	if info, err := os.Stat(third); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
}

func TestUpdateKubeconfigWantsAClusterThatAnswers(t *testing.T) {
	service(t)
	createDemo(t)
	file := filepath.Join(t.TempDir(), "config")
	for want, args := range map[string][]string{
		"cluster demo is CREATING":  {"--name", "demo"},
		"No cluster found for name": {"--name", "other"},
		`required flag(s) "name"`:   nil,
		"unknown command \"demo\"":  {"demo"},
	} {
		if _, _, err := ovenbird(t, append([]string{"update-kubeconfig", "--kubeconfig", file}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", args, err, want)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("something was written")
	}
}

// credential is what kubectl reads.
type credential struct {
	APIVersion, Kind string
	Status           struct {
		Token               string
		ExpirationTimestamp time.Time
	}
}

func readCredential(t *testing.T, text string) credential {
	t.Helper()
	var c credential
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if left := time.Until(c.Status.ExpirationTimestamp); c.Kind != "ExecCredential" || left < 13*time.Minute || left > 14*time.Minute {
		t.Errorf("got %s for %s", c.Kind, left)
	}
	return c
}

func TestGetTokenSignsForTheSTSOfTheConfiguration(t *testing.T) {
	for name, tt := range map[string]struct {
		endpoint, info string
		args           []string
		version, host  string
	}{
		"the region's":           {"", "", nil, ststoken.ExecV1beta1, "sts.us-west-2.amazonaws.com"},
		"another region's":       {"", "", []string{"--region", "cn-north-1"}, ststoken.ExecV1beta1, "sts.cn-north-1.amazonaws.com.cn"},
		"the environment's":      {"https://aws.lab.internal", "", nil, ststoken.ExecV1beta1, "aws.lab.internal"},
		"for who asks for v1":    {"", `{"apiVersion":"client.authentication.k8s.io/v1"}`, nil, ststoken.ExecV1, "sts.us-west-2.amazonaws.com"},
		"for a port of its host": {"https://127.0.0.1:8443/", "", nil, ststoken.ExecV1beta1, "127.0.0.1:8443"},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, "http://127.0.0.1:1")
			t.Setenv("AWS_ENDPOINT_URL_STS", tt.endpoint)
			t.Setenv(ststoken.ExecInfo, tt.info)
			got := readCredential(t, must(t, append([]string{"get-token", "--cluster-name", "demo"}, tt.args...)...))
			if got.APIVersion != tt.version {
				t.Errorf("got version %s", got.APIVersion)
			}
			if _, err := ststoken.Parse(got.Status.Token, tt.host, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGetTokenSignsAsARole(t *testing.T) {
	sts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRole" || r.FormValue("RoleArn") != "arn:aws:iam::111122223333:role/baker" || r.FormValue("RoleSessionName") != "EKSGetTokenAuth" {
			http.Error(w, "unexpected", http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
			<AccessKeyId>ASIABAKER</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>
			</Credentials></AssumeRoleResult></AssumeRoleResponse>`)
	}))
	t.Cleanup(sts.Close)
	environment(t, "http://127.0.0.1:1")
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sts.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	got := readCredential(t, must(t, "get-token", "--cluster-name", "demo", "--role-arn", "arn:aws:iam::111122223333:role/baker"))
	presigned, err := ststoken.Parse(got.Status.Token, strings.TrimPrefix(sts.URL, "https://"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if signer := presigned.Query().Get("X-Amz-Credential"); !strings.HasPrefix(signer, "ASIABAKER/") {
		t.Errorf("signed by %s", signer)
	}
}

func TestGetTokenRefusesWhatIsNoCluster(t *testing.T) {
	environment(t, "http://127.0.0.1:1")
	for want, args := range map[string][]string{
		`"a/b" is not a cluster name`:     {"--cluster-name", "a/b"},
		`required flag(s) "cluster-name"`: nil,
	} {
		if out, _, err := ovenbird(t, append([]string{"get-token"}, args...)...); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%v: got %v and %q, want %q", args, err, out, want)
		}
	}
}

// The AWS CLI finds in DescribeCluster what it wants, and the token that it makes is one
// that the service takes.
func TestTheAWSCLIDoesTheSame(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("the AWS CLI is not installed")
	}
	active(t)
	t.Setenv("AWS_ENDPOINT_URL_STS", "https://aws.lab.internal")
	t.Setenv("AWS_DEFAULT_REGION", "us-west-2")        // the CLI reads no AWS_REGION
	if err := os.Unsetenv("AWS_PROFILE"); err != nil { // which service has set, so it comes back
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config")
	copyFile(t, "testdata/before.yaml", file)
	aws := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		var problem strings.Builder
		cmd.Stderr = &problem
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, problem.String())
		}
		return string(out)
	}
	aws("aws", "eks", "update-kubeconfig", "--name", "demo", "--kubeconfig", file)
	config, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if c := config.Clusters[demoARN]; config.CurrentContext != demoARN || c == nil || c.Server != "https://10.0.0.10:6443" || string(c.CertificateAuthorityData) != "PEM" {
		t.Fatalf("got %+v", config)
	}
	plugin := config.AuthInfos[demoARN].Exec
	got := readCredential(t, aws(plugin.Command, plugin.Args...))
	if _, err := ststoken.Parse(got.Status.Token, "aws.lab.internal", time.Now()); err != nil {
		t.Error(err)
	}
	if out := must(t, "update-kubeconfig", "--name", "demo", "--kubeconfig", file); !strings.HasPrefix(out, "Updated context") {
		t.Errorf("over what the AWS CLI wrote: %q", out)
	}
}
