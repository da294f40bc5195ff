package iam

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const janeMay = `{"statements":[{"principals":["` + operators + `"],"actions":["eks:*"],"resources":["*"]}]}`

func policyIn(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// broken is a registry that cannot be read.
type broken struct{}

func (broken) GetAccessEntry(context.Context, string, string) (registry.AccessEntry, error) {
	return registry.AccessEntry{}, errors.New("etcd is away")
}

func TestANodeMayDescribeItsOwnClusterAndNothingElse(t *testing.T) {
	policy, err := OpenPolicy(policyIn(t, janeMay), zaptest.NewLogger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.entries["arn:aws:iam::111122223333:role/instance"] = registry.AccessEntry{Type: registry.TypeEC2}
	w.cluster.AuthenticationMode = registry.ModeAPIAndConfigMap
	w.configMap = map[string]string{"mapRoles": "- {rolearn: arn:aws:iam::111122223333:role/older, groups: [system:nodes]}"}
	authorizer := Authorizer{Policy: policy, Entries: Principals{w, w}}
	for _, tt := range []struct {
		name, arn string
		request   Request
		want      bool
	}{
		{"its cluster", nodeARN, on("DescribeCluster", "kitchen"), true},
		{"its cluster, with an entry of type EC2", "arn:aws:sts::111122223333:assumed-role/instance/i-0abc", on("DescribeCluster", "kitchen"), true},
		{"its cluster, by aws-auth", "arn:aws:sts::111122223333:assumed-role/older/i-0abc", on("DescribeCluster", "kitchen"), true},
		{"another cluster, by aws-auth", "arn:aws:sts::111122223333:assumed-role/older/i-0abc", on("DescribeCluster", "pantry"), false},
		{"another cluster", nodeARN, on("DescribeCluster", "pantry"), false},
		{"its cluster's end", nodeARN, on("DeleteCluster", "kitchen"), false},
		{"access for others", nodeARN, on("CreateAccessEntry", "kitchen"), false},
		{"the list of clusters", nodeARN, Request{Operation: "eks:ListClusters", Resource: "*"}, false},
		{"no cluster at all", nodeARN, Request{Operation: "eks:DescribeCluster", Resource: "*"}, false},
		{"a role with an entry of type STANDARD", "arn:aws:sts::111122223333:assumed-role/deployer/x", on("DescribeCluster", "kitchen"), false},
		{"a role without an entry", "arn:aws:sts::111122223333:assumed-role/nobody/x", on("DescribeCluster", "kitchen"), false},
		{"a user with a node's entry", "arn:aws:iam::111122223333:user/node", on("DescribeCluster", "kitchen"), false},
		{"whom the policy names", jane, on("DeleteCluster", "kitchen"), true},
	} {
		err := authorizer.Authorize(t.Context(), as(tt.arn), tt.request)
		var denied *Denied
		if tt.want != (err == nil) || err != nil && !errors.As(err, &denied) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if want := "User: " + tt.arn + " is not authorized to perform: " + tt.request.Operation + " on resource: " + tt.request.Resource; err != nil && err.Error() != want {
			t.Errorf("%s: got %q, want %q", tt.name, err, want)
		}
	}
	var denied *Denied
	if err := (Authorizer{policy, broken{}}).Authorize(t.Context(), as(nodeARN), on("DescribeCluster", "kitchen")); err == nil || errors.As(err, &denied) {
		t.Errorf("a registry that is away: got %v, want an error that is no denial", err)
	}
}

func TestAChangedPolicyIsInForceAndABrokenOneIsNot(t *testing.T) {
	clock := &ticking{}
	core, logs := observer.New(zap.InfoLevel)
	path := policyIn(t, `{"statements":[]}`)
	policy, err := OpenPolicy(path, zap.New(core), clock.now)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content string) func() error {
		return func() error {
			next := path + ".next"
			return errors.Join(os.WriteFile(next, []byte(content), 0o600), os.Rename(next, path))
		}
	}
	for _, step := range []struct {
		name     string
		change   func() error
		allowed  bool
		problems int // errors in the log so far
	}{
		{"as it was opened", func() error { return nil }, false, 0},
		{"allows", write(janeMay), true, 0},
		{"is no JSON", write("{"), true, 1},
		{"is no JSON still", func() error { return nil }, true, 1},
		{"allows nobody", write(`{"statements":[]}`), false, 1},
		{"allows again", write(janeMay), true, 1},
		{"may be changed by others", func() error { return os.Chmod(path, 0o666) }, true, 2},
		{"is gone", func() error { return os.Remove(path) }, true, 3},
		{"is back", write(`{"statements":[]}`), false, 3},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		clock.pass(policyLook)
		if got := policy.Current().Allows(as(jane), on("DeleteCluster", "x")); got != step.allowed {
			t.Errorf("%s: allowed %t", step.name, got)
		}
		if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != step.problems {
			t.Errorf("%s: %d errors in the log, want %d", step.name, n, step.problems)
		}
	}
}

func TestAChangedPolicyThatCannotBeReadAtOnceIsReadLater(t *testing.T) {
	clock := &ticking{}
	path := policyIn(t, `{"statements":[]}`)
	policy, err := OpenPolicy(path, zap.NewNop(), clock.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(janeMay), 0o600); err != nil {
		t.Fatal(err)
	}
	var usual syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	for _, files := range []uint64{0, usual.Cur} {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: usual.Max}); err != nil {
			t.Fatal(err)
		}
		clock.pass(policyLook)
		if got := policy.Current().Allows(as(jane), on("DeleteCluster", "x")); got != (files > 0) {
			t.Errorf("with %d files to open: allowed %t", files, got)
		}
	}
}

func TestAPolicyThatOthersMayChangeIsNotOpened(t *testing.T) {
	path := policyIn(t, janeMay)
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPolicy(path, zap.NewNop(), nil); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("got %v", err)
	}
	if _, err := OpenPolicy(path+"x", zap.NewNop(), nil); err == nil {
		t.Error("a missing file was opened")
	}
	if _, err := OpenPolicy(policyIn(t, janeMay+strings.Repeat(" ", maxPolicy)), zap.NewNop(), nil); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: %v", err)
	}
}
