package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

func TestAnUpdateIsFinishedByTheNextServiceAndAuditsWithoutSecrets(t *testing.T) {
	r := newRig(t)
	service := r.serve()
	r.must(r.Create(r.ctx, "blue"))
	described, err := r.AwaitActive(r.ctx, "blue")
	r.must(err)
	before := r.pids("blue")

	started := r.setAuditing(true)
	_ = service.Signal(syscall.SIGKILL)
	service = r.serve()
	r.awaitUpdate(started)
	after := r.pids("blue")
	if after[component.APIServer] == before[component.APIServer] || after[component.Etcd] != before[component.Etcd] {
		t.Errorf("processes %v, then %v: want another API server and nothing else", before, after)
	}
	admin := r.administrator("blue", *described.Endpoint)
	r.answers(admin)
	r.leaveTraces(admin)
	r.checkAudit()

	r.awaitUpdate(r.setAuditing(false))
	r.must(service.Signal(syscall.SIGTERM))
}

// setAuditing asks for the audit log and returns the update's ID.
func (r *rig) setAuditing(on bool) string {
	r.Helper()
	started, err := r.EKS.UpdateClusterConfig(r.ctx, &eks.UpdateClusterConfigInput{
		Name:    aws.String("blue"),
		Logging: &types.Logging{ClusterLogging: []types.LogSetup{{Enabled: aws.Bool(on), Types: []types.LogType{types.LogTypeAudit}}}},
	})
	r.must(err)
	return *started.Update.Id
}

func (r *rig) awaitUpdate(id string) {
	r.Helper()
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		answer, err := r.EKS.DescribeUpdate(r.ctx, &eks.DescribeUpdateInput{Name: aws.String("blue"), UpdateId: aws.String(id)})
		if err != nil {
			return false, err
		}
		if answer.Update.Status == types.UpdateStatusFailed {
			r.Fatalf("update failed: %+v", answer.Update.Errors)
		}
		return answer.Update.Status == types.UpdateStatusSuccessful, nil
	}))
	described, err := r.EKS.DescribeCluster(r.ctx, &eks.DescribeClusterInput{Name: aws.String("blue")})
	r.must(err)
	if described.Cluster.Status != types.ClusterStatusActive {
		r.Errorf("after its update the cluster is %s", described.Cluster.Status)
	}
}

// leaveTraces writes what an audit log must tell in part only.
func (r *rig) leaveTraces(admin *kubernetes.Clientset) {
	r.Helper()
	name := meta.ObjectMeta{Name: "traced"}
	_, err := admin.CoreV1().Secrets("default").Create(r.ctx, &core.Secret{ObjectMeta: name, StringData: map[string]string{"key": "not-for-the-log"}}, meta.CreateOptions{})
	r.must(err)
	_, err = admin.CoreV1().ConfigMaps("default").Create(r.ctx, &core.ConfigMap{ObjectMeta: name, Data: map[string]string{"key": "not-for-the-log"}}, meta.CreateOptions{})
	r.must(err)
	_, err = admin.RbacV1().Roles("default").Create(r.ctx, &rbac.Role{ObjectMeta: name}, meta.CreateOptions{})
	r.must(err)
}

// checkAudit reads the audit log: the API server has written an event before it answers.
func (r *rig) checkAudit() {
	r.Helper()
	log, err := os.Open(filepath.Join(cluster.Dir(r.StateDir(), "blue"), "run", "kube-apiserver-audit.log"))
	r.must(err)
	defer log.Close()
	levels := map[string]string{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "not-for-the-log") {
			r.Errorf("the audit log holds a secret: %s", lines.Text())
		}
		var event struct {
			Level, Verb string
			ObjectRef   struct{ Resource, Name string }
			User        struct{ Username string }
		}
		r.must(json.Unmarshal(lines.Bytes(), &event))
		if event.ObjectRef.Name == "traced" {
			levels[event.ObjectRef.Resource] = event.Level
		}
		if event.User.Username == "system:kube-scheduler" && event.Verb == "watch" {
			r.Errorf("the audit log is full of reads: %s", lines.Text())
		}
	}
	r.must(lines.Err())
	for resource, want := range map[string]string{"secrets": "Metadata", "configmaps": "Metadata", "roles": "RequestResponse"} {
		if levels[resource] != want {
			r.Errorf("%s are audited at %q, want %s", resource, levels[resource], want)
		}
	}
}
