package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/backup"
	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

const guest = "arn:aws:iam::111122223333:role/guest"

func TestAClusterComesBackFromItsBackup(t *testing.T) {
	r := newRig(t)
	service := r.serve()
	r.must(r.Create(r.ctx, "blue"))
	described, err := r.AwaitActive(r.ctx, "blue")
	r.must(err)
	admin, node := r.administrator("blue", *described.Endpoint), r.node("blue", *described.Endpoint)
	r.fill(admin)
	_, err = r.EKS.CreateAccessEntry(r.ctx, &eks.CreateAccessEntryInput{ClusterName: aws.String("blue"), PrincipalArn: aws.String(guest)})
	r.must(err)

	key, archives := filepath.Join(r.Dir, "backup.key"), filepath.Join(r.Dir, "backups")
	r.run("backup-key", key)
	var taken []backup.Taken
	r.must(json.Unmarshal(r.run("backup", "--backup-to", archives, "--backup-key-file", key, "--state-dir", r.StateDir(), "--output", "json"), &taken))
	if len(taken) != 1 || taken[0].Cluster != "blue" || taken[0].Keys == 0 {
		t.Fatalf("taken %+v", taken)
	}
	r.checkSecrecy(filepath.Join(archives, taken[0].Archive))
	// What comes later is lost.
	r.must(admin.CoreV1().ConfigMaps("default").Delete(r.ctx, "kept", meta.DeleteOptions{}))

	restore := []string{"restore", "--from", archives, "--backup-key-file", key, "--state-dir", r.StateDir(), "--cluster", "blue"}
	if output, err := r.Command(r.ctx, restore...).CombinedOutput(); err == nil || !strings.Contains(string(output), "--replace") {
		t.Errorf("over a running cluster: %q, %v", output, err)
	}
	r.corrupt("blue")
	if output, err := r.Command(r.ctx, "backup", "--backup-to", archives, "--backup-key-file", key, "--state-dir", r.StateDir()).CombinedOutput(); err == nil {
		t.Errorf("a corrupted cluster was backed up: %s", output)
	}
	r.run(append(restore, "--replace")...)
	r.checkRestored("after its data was corrupted", *described.Endpoint, admin, node)

	r.must(r.Delete(r.ctx, "blue"))
	r.checkNothingIsLeft("blue")
	r.run(restore...)
	r.checkRestored("after it was deleted", *described.Endpoint, admin, node)
	r.must(service.Signal(syscall.SIGTERM))

	// Another machine: nothing but the archive, the key, and an address of its own.
	other := newRig(t)
	scheduled := filepath.Join(other.Dir, "backups")
	other.Flags = []string{"--backup-interval", "1m", "--backup-to", scheduled, "--backup-key-file", key}
	service = other.serve()
	other.run("restore", "--from", archives, "--backup-key-file", key, "--state-dir", other.StateDir())
	endpoint := "https://" + other.Address.String() + ":6443"
	moved := other.administrator("blue", endpoint)
	other.checkRestored("on another machine", endpoint, moved, other.node("blue", endpoint))
	if theirs, mine := other.authority("blue"), r.authority("blue"); !bytes.Equal(theirs, mine) {
		t.Error("the cluster has another authority on another machine")
	}
	other.must(trial.Poll(other.ctx, func() (bool, error) {
		taken, err := filepath.Glob(filepath.Join(scheduled, "blue", "*.ovenbird"))
		return len(taken) > 0, err
	}))
	other.must(service.Signal(syscall.SIGTERM))
}

func TestWhatWasTakenIsToldWhenTheRestFails(t *testing.T) {
	failure := errors.New("the place is full")
	taken, err := takeEach([]string{"none", "unpruned", "good"}, func(name string) (backup.Taken, error) {
		switch name {
		case "none":
			return backup.Taken{}, failure
		case "unpruned":
			return backup.Taken{Archive: name}, failure
		}
		return backup.Taken{Archive: name}, nil
	})
	if len(taken) != 2 || taken[0].Archive != "unpruned" || taken[1].Archive != "good" || !errors.Is(err, failure) {
		t.Errorf("taken %+v, %v", taken, err)
	}
}

// fill writes what has to come back.
func (r *rig) fill(admin *kubernetes.Clientset) {
	r.Helper()
	_, err := admin.CoreV1().ConfigMaps("default").Create(r.ctx, &core.ConfigMap{
		ObjectMeta: meta.ObjectMeta{Name: "kept"}, Data: map[string]string{"a": "b"},
	}, meta.CreateOptions{})
	r.must(err)
	_, err = admin.CoreV1().Secrets("default").Create(r.ctx, &core.Secret{
		ObjectMeta: meta.ObjectMeta{Name: "kept"}, StringData: map[string]string{"password": "in the clear"},
	}, meta.CreateOptions{})
	r.must(err)
}

// checkRestored uses the cluster with what its users had before.
func (r *rig) checkRestored(when, endpoint string, admin, node *kubernetes.Clientset) {
	r.Helper()
	described, err := r.AwaitActive(r.ctx, "blue")
	if err != nil || *described.Endpoint != endpoint {
		r.Fatalf("%s: %+v, %v, want it at %s", when, described, err, endpoint)
	}
	if config, err := admin.CoreV1().ConfigMaps("default").Get(r.ctx, "kept", meta.GetOptions{}); err != nil || config.Data["a"] != "b" {
		r.Errorf("%s: ConfigMap %v, %v", when, config, err)
	}
	if secret, err := admin.CoreV1().Secrets("default").Get(r.ctx, "kept", meta.GetOptions{}); err != nil || string(secret.Data["password"]) != "in the clear" {
		r.Errorf("%s: Secret %v, %v", when, secret, err)
	}
	who, err := node.AuthenticationV1().SelfSubjectReviews().Create(r.ctx, &authentication.SelfSubjectReview{}, meta.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "system:node:i-0123456789abcdef0" {
		r.Errorf("%s: the node is %v, %v", when, who, err)
	}
	if _, err := r.EKS.DescribeAccessEntry(r.ctx, &eks.DescribeAccessEntryInput{ClusterName: aws.String("blue"), PrincipalArn: aws.String(guest)}); err != nil {
		r.Errorf("%s: access entry: %v", when, err)
	}
}

// node is a client with a certificate as controller-manager signs for nodes.
func (r *rig) node(name, endpoint string) *kubernetes.Clientset {
	r.Helper()
	authority, err := pki.LoadAuthority(cluster.KeyDir(r.StateDir(), name), cluster.Authority)
	r.must(err)
	certificate, key, err := authority.Issue(pki.Leaf{
		CommonName: "system:node:i-0123456789abcdef0", Organizations: []string{"system:nodes"}, Usage: pki.Client, Lifetime: time.Hour,
	}, time.Now())
	r.must(err)
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: endpoint, TLSClientConfig: rest.TLSClientConfig{CAData: authority.PEM, CertData: certificate, KeyData: key},
	})
	r.must(err)
	return client
}

func (r *rig) authority(name string) []byte {
	r.Helper()
	authority, err := pki.LoadAuthority(cluster.KeyDir(r.StateDir(), name), cluster.Authority)
	r.must(err)
	return authority.PEM
}

// run calls ovenbird and returns its result.
func (r *rig) run(args ...string) []byte {
	r.Helper()
	var problem bytes.Buffer
	cmd := r.Command(r.ctx, args...)
	cmd.Stderr = &problem
	output, err := cmd.Output()
	if err != nil {
		r.Fatalf("ovenbird %s: %v\n%s", strings.Join(args, " "), err, problem.String())
	}
	return output
}

// checkSecrecy looks for the cluster in an archive that nobody else may read.
func (r *rig) checkSecrecy(archive string) {
	r.Helper()
	info, err := os.Stat(archive)
	r.must(err)
	data, err := os.ReadFile(archive)
	r.must(err)
	if info.Mode() != 0o600 || !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n")) || bytes.Contains(data, []byte("blue")) {
		r.Errorf("the archive has mode %v and begins %.40q", info.Mode(), data)
	}
}

// corrupt damages the data of a cluster's etcd under it, and waits until it is noticed.
func (r *rig) corrupt(name string) {
	r.Helper()
	data := filepath.Join(cluster.Dir(r.StateDir(), name), cluster.EtcdData, "member", "snap", "db")
	file, err := os.OpenFile(data, os.O_WRONLY, 0)
	r.must(err)
	_, err = file.WriteAt(bytes.Repeat([]byte("damage "), 64<<10), 0)
	r.must(err)
	r.must(file.Close())
	r.must(syscall.Kill(r.pids(name)[component.Etcd], syscall.SIGKILL))
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		answer, err := r.EKS.DescribeCluster(r.ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
		return err == nil && len(answer.Cluster.Health.Issues) > 0, err
	}))
}

// An instance has a region by its metadata alone, which the SDK does not ask.
func TestABucketIsInTheRegionOfTheClustersIfNobodySaysOtherwise(t *testing.T) {
	key := filepath.Join(t.TempDir(), "backup.key")
	if _, err := backup.MakeKey(key); err != nil {
		t.Fatal(err)
	}
	var signed string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, "<ListBucketResult/>")
	}))
	defer server.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		t.Setenv(name, value)
	}
	for said, want := range map[string]string{"": "eu-central-1", "eu-west-1": "eu-west-1"} {
		t.Setenv("AWS_REGION", said)
		place, _, err := (&backupFlags{where: "s3://archives/clusters", keyFile: key}).open(t.Context(), "eu-central-1")
		if err == nil {
			_, err = place.List(t.Context())
		}
		if err != nil || !strings.Contains(signed, "/"+want+"/s3/") {
			t.Errorf("AWS_REGION %q: signed as %q, %v", said, signed, err)
		}
	}
}

func TestARestoreNeedsAService(t *testing.T) {
	_, _, err := reachRegistry(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "start `ovenbird serve` with this --state-dir first") {
		t.Errorf("error %v", err)
	}
}
