package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
)

func TestABearerAndASignerReachTheServiceAndAreOnRecord(t *testing.T) {
	r := newRig(t)
	r.startSTS()
	service := r.serve()
	for _, args := range [][]string{
		{"cluster", "list", "--output", "json"},
		{"cluster", "list", "--output", "json", "--auth", "bearer", "--account-id", "111122223333"},
	} {
		if output, err := r.Command(r.ctx, args...).CombinedOutput(); err != nil || strings.TrimSpace(string(output)) != "[]" {
			t.Errorf("ovenbird %s: %s, %v", strings.Join(args, " "), output, err)
		}
	}
	output, err := r.Command(r.ctx, "cluster", "list", "--auth", "bearer", "--account-id", "444455556666").CombinedOutput()
	if err == nil || !strings.Contains(string(output), "security token included in the request is invalid") {
		t.Errorf("a token for another account: %s, %v", output, err)
	}
	r.must(service.Signal(syscall.SIGTERM))
	r.checkRecord()
}

func (r *rig) checkRecord() {
	r.Helper()
	const admin = "arn:aws:iam::111122223333:user/admin"
	for name, want := range map[string][]string{
		"audit.jsonl": {
			"sigv4 " + admin + " eks:ListClusters 200 ",
			"bearer " + admin + " eks:ListClusters 200 ",
		},
		"audit-refused.jsonl": {"   403 UnrecognizedClientException"},
	} {
		if lines := r.record(name); !slices.Equal(lines, want) {
			r.Errorf("%s is\n%s\nwant\n%s", name, strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	}
}

func (r *rig) record(name string) (lines []string) {
	r.Helper()
	record, err := os.Open(filepath.Join(r.StateDir(), name))
	r.must(err)
	defer record.Close()
	for scanner := bufio.NewScanner(record); scanner.Scan(); {
		var e audit.Event
		r.must(json.Unmarshal(scanner.Bytes(), &e))
		lines = append(lines, strings.Join([]string{e.Proof, e.Principal, e.Operation, e.Outcome, e.Reason}, " "))
	}
	return lines
}

func TestTheAWSCLIReachesTheServiceThroughTheProxy(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("the AWS CLI is not installed")
	}
	r := newRig(t)
	r.startSTS()
	service := r.serve()
	proxy := r.Command(r.ctx, "proxy", "--account-id", "111122223333")
	output, err := proxy.StdoutPipe()
	r.must(err)
	r.must(proxy.Start())
	var variable string
	for lines := bufio.NewScanner(output); variable == "" && lines.Scan(); {
		if export, ok := strings.CutPrefix(lines.Text(), "export "); ok {
			variable = export
		}
	}
	// The CLI has nothing but the access key, and trusts nobody in particular.
	aws := exec.CommandContext(r.ctx, "aws", "eks", "list-clusters", "--output", "json")
	aws.Env = r.Command(r.ctx).Env
	aws.Env = append(aws.Env, variable, "AWS_CA_BUNDLE=", "AWS_DEFAULT_REGION=us-west-2")
	if answer, err := aws.CombinedOutput(); err != nil || strings.Join(strings.Fields(string(answer)), "") != `{"clusters":[]}` {
		t.Errorf("aws eks list-clusters with %s: %s, %v", variable, answer, err)
	}
	r.must(proxy.Process.Signal(syscall.SIGTERM))
	r.must(proxy.Wait())
	r.must(service.Signal(syscall.SIGTERM))
}
