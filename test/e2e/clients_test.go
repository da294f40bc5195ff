package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// checkAWSClients walks the AWS CLI and kubectl through the life of a cluster of their own,
// with the lab's environment and nothing else set.
func checkAWSClients(t *testing.T, l *lab) {
	requireCLI(t)
	const name = "walk"
	aws := func(args ...string) map[string]any {
		t.Helper()
		var answer map[string]any
		out := l.run(t, 5*time.Minute, "aws", append([]string{"eks", "--output", "json"}, args...)...)
		if out = strings.TrimSpace(out); out == "" {
			return nil
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatalf("aws eks %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return answer
	}
	at := func(answer map[string]any, path ...string) any {
		var value any = answer
		for _, key := range path {
			members, _ := value.(map[string]any)
			value = members[key]
		}
		return value
	}
	want := func(what string, got any, want string) {
		t.Helper()
		if fmt.Sprint(got) != want {
			t.Errorf("%s is %v, want %s", what, got, want)
		}
	}

	created := aws("create-cluster", "--name", name, "--role-arn", "arn:aws:iam::111122223333:role/cluster",
		"--resources-vpc-config", "subnetIds="+l.value("OVENBIRD_SUBNETS"), "--tags", "team=blue")
	want("status", at(created, "cluster", "status"), "CREATING")
	// The waiter of the CLI looks every 30 seconds; what follows needs no API server yet.
	clusterARN := fmt.Sprint(at(created, "cluster", "arn"))
	if parsed, err := arn.Parse(clusterARN); err != nil || parsed.Service != "eks" || parsed.Resource != "cluster/"+name {
		t.Errorf("the ARN is %s (%v)", clusterARN, err)
	}
	want("the clusters, in pages of one", at(aws("list-clusters", "--page-size", "1"), "clusters"), "["+clusterName+" "+name+"]")
	aws("tag-resource", "--resource-arn", clusterARN, "--tags", "cost=7")
	aws("untag-resource", "--resource-arn", clusterARN, "--tag-keys", "team")
	want("tags", at(aws("list-tags-for-resource", "--resource-arn", clusterARN), "tags"), "map[cost:7]")

	const viewer = "arn:aws:iam::111122223333:role/viewer"
	const view = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
	aws("create-access-entry", "--cluster-name", name, "--principal-arn", viewer, "--kubernetes-groups", "viewers")
	aws("associate-access-policy", "--cluster-name", name, "--principal-arn", viewer, "--policy-arn", view,
		"--access-scope", "type=namespace,namespaces=default")
	associated := aws("list-associated-access-policies", "--cluster-name", name, "--principal-arn", viewer)
	if list, _ := at(associated, "associatedAccessPolicies").([]any); len(list) != 1 {
		t.Errorf("associated are %v", associated)
	}
	want("whom the policy is given to", at(aws("list-access-entries", "--cluster-name", name, "--associated-policy-arn", view), "accessEntries"), "["+viewer+"]")
	aws("disassociate-access-policy", "--cluster-name", name, "--principal-arn", viewer, "--policy-arn", view)
	aws("delete-access-entry", "--cluster-name", name, "--principal-arn", viewer)

	aws("wait", "cluster-active", "--name", name)
	update := aws("update-cluster-config", "--name", name, "--logging", `{"clusterLogging":[{"types":["audit"],"enabled":true}]}`)
	id := fmt.Sprint(at(update, "update", "id"))
	aws("wait", "cluster-active", "--name", name)
	want("the update", at(aws("describe-update", "--name", name, "--update-id", id), "update", "status"), "Successful")
	if ids, _ := at(aws("list-updates", "--name", name), "updateIds").([]any); !slices.Contains(ids, any(id)) {
		t.Errorf("the updates are %v, want %s among them", ids, id)
	}

	for _, config := range [][]string{
		{"aws", "eks", "update-kubeconfig", "--name", name, "--kubeconfig"},
		{"bin/ovenbird", "update-kubeconfig", "--name", name, "--kubeconfig"},
	} {
		file := filepath.Join(t.TempDir(), "kubeconfig")
		l.run(t, time.Minute, config[0], append(slices.Clone(config[1:]), file)...)
		out := l.run(t, time.Minute, l.kubectl(t), "--kubeconfig", file, "auth", "can-i", "*", "*", "--all-namespaces")
		want("whether its creator may do everything, by "+config[0], strings.TrimSpace(out), "yes")
	}

	aws("delete-cluster", "--name", name)
	aws("wait", "cluster-deleted", "--name", name)
	if _, stderr, err := l.try(t, time.Minute, "aws", "eks", "describe-cluster", "--name", name); err == nil || !strings.Contains(stderr, "(ResourceNotFoundException)") {
		t.Errorf("describing what is deleted says %v, %s", err, stderr)
	}
}

func requireCLI(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the AWS CLI is not installed")
		}
		t.Skip("the AWS CLI is not installed")
	}
}

// kubectl is the newest that is built.
func (l *lab) kubectl(t *testing.T) string {
	t.Helper()
	return filepath.Join(l.root, "dist/components/kubernetes", pinnedVersions(t, l)["kubernetes"], "kubectl")
}
