package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eks"
	"go.uber.org/zap"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

// asOvenbird makes the test binary the ovenbird binary.
const asOvenbird = "OVENBIRD_TEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asOvenbird) != "" {
		main()
	}
	os.Exit(m.Run())
}

// rig is a site under test.
type rig struct {
	*testing.T
	*trial.Site
	ctx context.Context
	log *os.File
}

func newRig(t *testing.T) *rig {
	t.Helper()
	components, err := filepath.Abs("../dist/components")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := component.OpenCatalog(components); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	site, err := trial.NewSite(binary, components, dir)
	if err != nil {
		t.Fatal(err)
	}
	site.Env = []string{asOvenbird + "=1"}
	log, err := os.Create(filepath.Join(dir, "service.log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	r := &rig{T: t, Site: site, ctx: ctx, log: log}
	t.Cleanup(func() {
		defer cancel()
		defer log.Close()
		defer site.Close()
		if t.Failed() {
			r.showLogs()
		}
		if _, err := supervise.StopAll(context.Background(), dir, time.Second); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(r.StateDir(), "*/*/run/*.log"))
	for _, path := range append(logs, r.log.Name()) {
		data, _ := os.ReadFile(path)
		r.Logf("== %s\n%s", path, data[max(0, len(data)-4000):])
	}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) serve() *trial.Service {
	r.Helper()
	service, err := r.Serve(r.ctx, r.log)
	r.must(err)
	r.Cleanup(func() { _ = service.Signal(syscall.SIGKILL) })
	return service
}

// pids are the processes of a cluster, by component.
func (r *rig) pids(name string) map[string]int {
	r.Helper()
	pids := map[string]int{}
	for component, p := range r.processes(name) {
		pids[component] = p.PID
	}
	return pids
}

// process is what tells a process from all others of this boot.
type process struct {
	PID     int
	Started uint64
}

// processes are those recorded for a cluster, by component.
func (r *rig) processes(name string) map[string]process {
	r.Helper()
	records, _ := filepath.Glob(filepath.Join(cluster.Dir(r.StateDir(), name), "run", "*.pid"))
	found := map[string]process{}
	for _, path := range records {
		data, err := os.ReadFile(path)
		r.must(err)
		var record process
		r.must(json.Unmarshal(data, &record))
		found[strings.TrimSuffix(filepath.Base(path), ".pid")] = record
	}
	return found
}

// administrator is a client with a certificate of the administrators' group.
func (r *rig) administrator(name, endpoint string) *kubernetes.Clientset {
	r.Helper()
	authority, err := pki.LoadAuthority(cluster.KeyDir(r.StateDir(), name), cluster.Authority)
	r.must(err)
	certificate, key, err := authority.Issue(pki.Leaf{
		CommonName: "admin", Organizations: []string{iam.AdminGroup}, Usage: pki.Client, Lifetime: time.Hour,
	}, time.Now())
	r.must(err)
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: endpoint, TLSClientConfig: rest.TLSClientConfig{CAData: authority.PEM, CertData: certificate, KeyData: key},
	})
	r.must(err)
	return client
}

// answers waits until the API server does.
func (r *rig) answers(client *kubernetes.Clientset) {
	r.Helper()
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		_, err := client.CoreV1().Namespaces().Get(r.ctx, "kube-system", meta.GetOptions{})
		return err == nil, nil
	}))
}

func TestAClusterLivesThroughKilledProcessesAndEndsWithoutATrace(t *testing.T) {
	r := newRig(t)
	service := r.serve()
	r.must(r.Create(r.ctx, "blue"))
	described, err := r.AwaitActive(r.ctx, "blue")
	r.must(err)
	if want := "https://" + r.Address.String() + ":6443"; *described.Endpoint != want || *described.Version != "1.37" {
		t.Errorf("endpoint %s, version %s, want %s and 1.37", *described.Endpoint, *described.Version, want)
	}
	admin := r.administrator("blue", *described.Endpoint)
	r.checkAddOns(admin)
	r.checkIssuer(admin, described)
	r.checkAnonymousIsRefused(*described.Endpoint)
	r.checkSecretsAreEncrypted(admin)
	r.checkMetrics()

	before := r.pids("blue")
	if len(before) != 4 {
		t.Fatalf("processes %v, want four", before)
	}
	r.must(syscall.Kill(before[component.APIServer], syscall.SIGKILL))
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		return r.pids("blue")[component.APIServer] != before[component.APIServer], nil
	}))
	r.answers(admin)

	running := r.processes("blue")
	_ = service.Signal(syscall.SIGKILL)
	r.answers(admin)
	former := r.removeLeaves("blue")
	service = r.serve()
	if _, err := r.AwaitActive(r.ctx, "blue"); err != nil {
		t.Error(err)
	}
	r.checkRenewed("blue", *described.Endpoint, former)
	r.must(service.Signal(syscall.SIGTERM))
	r.answers(admin)
	service = r.serve()
	if after := r.processes("blue"); !maps.Equal(after, running) {
		t.Errorf("processes %v, want the same as before the restarts: %v", after, running)
	}

	r.must(r.Delete(r.ctx, "blue"))
	r.checkNothingIsLeft("blue")
	if list, err := r.EKS.ListClusters(r.ctx, &eks.ListClustersInput{}); err != nil || len(list.Clusters) != 0 {
		t.Errorf("clusters %v, %v, want none", list.Clusters, err)
	}
	r.must(service.Signal(syscall.SIGTERM))
}

func TestStopEndsEverythingAndTheNextServiceStartsItAgain(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.must(r.Create(r.ctx, "blue"))
	described, err := r.AwaitActive(r.ctx, "blue")
	r.must(err)
	admin := r.administrator("blue", *described.Endpoint)
	_, err = admin.CoreV1().ConfigMaps("default").Create(r.ctx, &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "kept"}}, meta.CreateOptions{})
	r.must(err)

	second, err := r.Command(r.ctx, "serve", "--listen", r.Address.String()+":1", "--region", "us-west-2", "--account-id", "111122223333",
		"--tls-cert", r.Dir+"/eks.pem", "--tls-key", r.Dir+"/eks.pem", "--credentials", r.Dir+"/credentials.json", "--policy", r.Dir+"/policy.json",
		"--components", r.Components, "--state-dir", r.StateDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "already running") || strings.Count(string(second), "\n") != 1 {
		t.Errorf("a second service on the same state said %q, %v", second, err)
	}

	output, err := r.Command(r.ctx, "stop", "--state-dir", r.StateDir(), "--output", "json").Output()
	r.must(err)
	var stopped []string
	r.must(json.Unmarshal(output, &stopped))
	slices.Sort(stopped)
	if want := []string{component.Etcd, component.APIServer, component.ControllerManager, component.Scheduler, "registry"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped %v, want %v", stopped, want)
	}
	if running, err := supervise.Running(r.Dir); err != nil || len(running) != 0 {
		t.Errorf("still running: %v, %v", running, err)
	}
	if output, err := r.Command(r.ctx, "stop", "--state-dir", r.StateDir()).Output(); err != nil || string(output) != "nothing was running\n" {
		t.Errorf("a second stop said %q, %v", output, err)
	}

	former := r.age("blue")
	service := r.serve()
	r.answers(admin)
	if _, err := admin.CoreV1().ConfigMaps("default").Get(r.ctx, "kept", meta.GetOptions{}); err != nil {
		t.Errorf("the cluster lost its data: %v", err)
	}
	r.checkAuthorityIsRenewed("blue", former)
	r.must(service.Signal(syscall.SIGTERM))
}

func TestAClusterIsDeletedWhileItIsBeingMade(t *testing.T) {
	r := newRig(t)
	service := r.serve()
	r.must(r.Create(r.ctx, "blue"))
	r.must(trial.Poll(r.ctx, func() (bool, error) { return r.pids("blue")[component.APIServer] != 0, nil }))
	// As crash-only as it gets: the service dies between the request and its work.
	_ = service.Signal(syscall.SIGKILL)
	service = r.serve()
	r.must(r.Delete(r.ctx, "blue"))
	r.checkNothingIsLeft("blue")
	r.must(service.Signal(syscall.SIGTERM))
}

func (r *rig) checkAddOns(admin *kubernetes.Clientset) {
	r.Helper()
	for _, name := range []string{"kube-proxy", "coredns"} {
		if _, err := admin.AppsV1().DaemonSets("kube-system").Get(r.ctx, name, meta.GetOptions{}); err != nil {
			r.Error(err)
		}
	}
	// controller-manager works, with tokens that it had signed.
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		_, err := admin.CoreV1().ConfigMaps("default").Get(r.ctx, "kube-root-ca.crt", meta.GetOptions{})
		if err == nil {
			_, err = admin.CoreV1().ServiceAccounts("default").Get(r.ctx, "default", meta.GetOptions{})
		}
		return err == nil, nil
	}))
	resolver, err := admin.CoreV1().Services("kube-system").Get(r.ctx, "kube-dns", meta.GetOptions{})
	r.must(err)
	first, err := admin.CoreV1().Services("default").Get(r.ctx, "kubernetes", meta.GetOptions{})
	r.must(err)
	if network, _ := strings.CutSuffix(first.Spec.ClusterIP, ".1"); resolver.Spec.ClusterIP != network+".10" {
		r.Errorf("kube-dns has %s in the network of %s, want its tenth address", resolver.Spec.ClusterIP, first.Spec.ClusterIP)
	}
}

func (r *rig) checkAnonymousIsRefused(endpoint string) {
	r.Helper()
	authority, err := os.ReadFile(filepath.Join(cluster.KeyDir(r.StateDir(), "blue"), "ca.crt"))
	r.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}
	for _, token := range []string{"", "k8s-aws-v1.nonsense"} {
		request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, endpoint+"/version", nil)
		r.must(err)
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := client.Do(request)
		r.must(err)
		_, _ = io.Copy(io.Discard, answer.Body)
		r.must(answer.Body.Close())
		if answer.StatusCode != http.StatusUnauthorized {
			r.Errorf("token %q: %s, want 401", token, answer.Status)
		}
	}
	// The API server asked the service, and it was the service that said no.
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		log, err := os.ReadFile(r.log.Name())
		return strings.Contains(string(log), "token refused"), err
	}))
}

func (r *rig) checkSecretsAreEncrypted(admin *kubernetes.Clientset) {
	r.Helper()
	_, err := admin.CoreV1().Secrets("default").Create(r.ctx, &core.Secret{
		ObjectMeta: meta.ObjectMeta{Name: "hidden"}, StringData: map[string]string{"password": "in the clear"},
	}, meta.CreateOptions{})
	r.must(err)
	keys := cluster.KeyDir(r.StateDir(), "blue")
	port, err := cluster.KeptPort(cluster.Dir(r.StateDir(), "blue"), component.Etcd)
	r.must(err)
	etcd, err := cluster.DialEtcd(keys, port, zap.NewNop())
	r.must(err)
	defer etcd.Close()
	stored, err := etcd.Get(r.ctx, "/registry/secrets/default/hidden")
	r.must(err)
	if len(stored.Kvs) != 1 || !strings.HasPrefix(string(stored.Kvs[0].Value), "k8s:enc:secretbox:") {
		r.Errorf("etcd holds %q", stored.Kvs)
	}
}

func (r *rig) checkMetrics() {
	r.Helper()
	want := []string{
		`ovenbird_certificate_requests_pending{cluster="blue"} 0`,
		`ovenbird_token_reviews_total{outcome="refused"}`,
		`ovenbird_ec2_call_duration_seconds_count{operation="DescribeSubnets",outcome="ok"}`,
	}
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.MetricsURL(), nil)
		if err != nil {
			return false, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		defer answer.Body.Close()
		figures, err := io.ReadAll(answer.Body)
		return !slices.ContainsFunc(want, func(line string) bool { return !strings.Contains(string(figures), line) }), err
	}))
}

func (r *rig) checkNothingIsLeft(name string) {
	r.Helper()
	dir := cluster.Dir(r.StateDir(), name)
	if running, err := supervise.Running(dir); err != nil || len(running) != 0 {
		r.Errorf("still running: %v, %v", running, err)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		r.Errorf("%s is still there: %v", dir, err)
	}
}
