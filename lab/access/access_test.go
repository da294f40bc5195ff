package access

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func TestTheEnvironmentOutsideLeadsThroughTheProxyAndTheOneInsideDoesNot(t *testing.T) {
	dir := state.Dir(t.TempDir())
	if err := identity.EnsureCredentials(dir.Credentials(), "arn:admin"); err != nil {
		t.Fatal(err)
	}
	lab := state.Lab{ProxyPort: 3128, Images: []state.Image{{ID: "ami-1"}, {ID: "ami-2"}}}
	inside, err := Inside(dir, lab, vpc.Default())
	if err != nil {
		t.Fatal(err)
	}
	outside, err := Outside(dir, lab, vpc.Default())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"AWS_ENDPOINT_URL": "https://aws.lab.internal", "AWS_ENDPOINT_URL_EKS": "https://eks.lab.internal",
		"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-west-2", "AWS_CA_BUNDLE": filepath.Join(string(dir), "ca.crt"),
		"OVENBIRD_AMI": "ami-2", "OVENBIRD_SUBNETS": "subnet-0aaaaaaaaaaaaaaaa,subnet-0bbbbbbbbbbbbbbbb,subnet-0cccccccccccccccc",
	} {
		if inside[name] != want || outside[name] != want {
			t.Errorf("%s is %q inside and %q outside, want %q", name, inside[name], outside[name], want)
		}
	}
	if outside["HTTPS_PROXY"] != "http://127.0.0.1:3128" || outside["NO_PROXY"] == "" {
		t.Errorf("proxy %q, none for %q", outside["HTTPS_PROXY"], outside["NO_PROXY"])
	}
	if _, ok := inside["HTTPS_PROXY"]; ok {
		t.Error("a proxy inside")
	}
}

func TestAShellReadsTheExportsBack(t *testing.T) {
	const value = `it's $HOME "and" more`
	shell := exec.Command("sh", "-c", Exports(map[string]string{"A": value, "HTTPS_PROXY": "lab"})+`printf %s "$A|$HTTPS_PROXY|$https_proxy$AWS_PROFILE"`)
	shell.Env = append(os.Environ(), "AWS_PROFILE=work", "https_proxy=office", "HTTPS_PROXY=office")
	out, err := shell.Output()
	if err != nil || string(out) != value+"|lab|" {
		t.Errorf("got %q, %v", out, err)
	}
}
