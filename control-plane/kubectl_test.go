package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ovenbird-dev/ovenbird/control-plane/access"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// startSTS answers GetCallerIdentity for the site's access keys, whose signatures it
// verifies, and has the service and the commands ask it.
func (r *rig) startSTS() {
	r.Helper()
	keys, err := iam.ReadKeys(filepath.Join(r.Dir, "credentials.json"))
	r.must(err)
	authority, err := pki.LoadAuthority(r.Dir, "ca")
	r.must(err)
	certificate, key, err := authority.Issue(pki.Leaf{
		CommonName: "sts", IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Usage: pki.Server, Lifetime: time.Hour,
	}, time.Now())
	r.must(err)
	pair, err := tls.X509KeyPair(certificate, key)
	r.must(err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		caller, err := sigv4.Verifier{Keys: keys, Region: "us-west-2", Service: "sts"}.Verify(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"111122223333","Arn":%q,"UserId":"AIDA"}}}`, caller.ARN)
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	r.Cleanup(server.Close)
	r.Env = append(r.Env, "AWS_ENDPOINT_URL_STS="+server.URL, "AWS_CA_BUNDLE="+filepath.Join(r.Dir, "ca.crt"),
		"AWS_ENDPOINT_URL_EKS="+*r.EKS.Options().BaseEndpoint, "AWS_REGION=us-west-2")
}

// kubectl runs the real one.
func (r *rig) kubectl(kubeconfig string, args ...string) (string, error) {
	r.Helper()
	found, err := filepath.Glob(filepath.Join(r.Components, "kubernetes/1.37.*/kubectl"))
	if err != nil || len(found) == 0 {
		r.Fatalf("no kubectl among the components: %v", err)
	}
	cmd := exec.CommandContext(r.ctx, found[0], append([]string{"--kubeconfig", kubeconfig, "--cache-dir", r.TempDir()}, args...)...)
	cmd.Env = r.Command(r.ctx).Env
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func TestKubectlComesInByIAMUntilItsEntryIsGone(t *testing.T) {
	r := newRig(t)
	r.startSTS()
	service := r.serve()
	r.must(r.Create(r.ctx, "blue"))
	described, err := r.AwaitActive(r.ctx, "blue")
	r.must(err)
	kubeconfig := filepath.Join(t.TempDir(), "config")
	if output, err := r.Command(r.ctx, "update-kubeconfig", "--name", "blue", "--kubeconfig", kubeconfig).CombinedOutput(); err != nil {
		t.Fatalf("update-kubeconfig: %v: %s", err, output)
	}

	// Whoever has made a cluster is its administrator.
	const admin = "arn:aws:iam::111122223333:user/admin"
	if output, err := r.kubectl(kubeconfig, "auth", "whoami"); err != nil || !strings.Contains(output, admin) {
		t.Fatalf("whoami: %v: %s", err, output)
	}
	if output, err := r.kubectl(kubeconfig, "create", "namespace", "team-a"); err != nil {
		t.Fatalf("create namespace: %v: %s", err, output)
	}
	r.checkPolicyBindingsAreKept(r.administrator("blue", *described.Endpoint))

	_, err = r.EKS.DeleteAccessEntry(r.ctx, &eks.DeleteAccessEntryInput{ClusterName: aws.String("blue"), PrincipalArn: aws.String(admin)})
	r.must(err)
	began := time.Now()
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		output, err := r.kubectl(kubeconfig, "get", "namespaces")
		return err != nil && strings.Contains(output, "Unauthorized") || strings.Contains(output, "must be logged in"), nil
	}))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("kubectl was let in for %s after its entry was gone", took)
	}
	r.must(service.Signal(syscall.SIGTERM))
}

// checkPolicyBindingsAreKept puts down a binding that no access entry wants.
func (r *rig) checkPolicyBindingsAreKept(admin *kubernetes.Clientset) {
	r.Helper()
	bindings := admin.RbacV1().RoleBindings("team-a")
	_, err := bindings.Create(r.ctx, &rbac.RoleBinding{
		ObjectMeta: meta.ObjectMeta{Name: "left-over", Labels: map[string]string{"ovenbird.dev/access-policies": ""}},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: access.Role(registry.EditPolicy)},
	}, meta.CreateOptions{})
	r.must(err)
	r.must(trial.Poll(r.ctx, func() (bool, error) {
		_, err := bindings.Get(r.ctx, "left-over", meta.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}))
}
