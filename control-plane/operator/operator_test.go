package operator_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/spf13/cobra"
	"go.uber.org/zap/zaptest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/eks"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/operator"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

const nodeRole = "arn:aws:iam::111122223333:role/ovenbird-node"

type keys struct{}

func (keys) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", ARN: "arn:aws:iam::111122223333:user/admin"}, nil
}

// admitted may do everything, and nobody keeps a record of it.
type admitted struct{}

func (admitted) Authorize(context.Context, iam.Caller, iam.Request) error { return nil }
func (admitted) Record(audit.Event)                                       {}

type network struct{}

func (network) DescribeSubnets(_ context.Context, in *ec2.DescribeSubnetsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error) {
	out := &ec2.DescribeSubnetsOutput{}
	for _, id := range in.SubnetIds {
		out.Subnets = append(out.Subnets, types.Subnet{SubnetId: aws.String(id), VpcId: aws.String("vpc-1"), AvailabilityZone: aws.String("us-west-2" + id[len(id)-1:])})
	}
	return out, nil
}

func (network) DescribeVpcs(context.Context, *ec2.DescribeVpcsInput, ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error) {
	return &ec2.DescribeVpcsOutput{Vpcs: []types.Vpc{{VpcId: aws.String("vpc-1"), CidrBlock: aws.String("10.0.0.0/16")}}}, nil
}

// service is the real API, which the environment of the test points to.
func service(t *testing.T) *registry.Registry {
	t.Helper()
	r := registrytest.New(t)
	api, err := eks.New(eks.Options{
		Registry: r, EC2: network{}, Region: "us-west-2", AccountID: "111122223333",
		Callers: iam.Callers{Keys: keys{}, Limit: iam.NewLimiter(1000, 1000, nil), Region: "us-west-2", Account: "111122223333", MaxBody: eks.MaxBody},
		Access:  admitted{}, Audit: admitted{},
		Versions: []string{"1.37"}, PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	environment(t, server.URL)
	return r
}

// environment is the whole of what an AWS client looks at.
func environment(t *testing.T, endpoint string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_EKS": endpoint, "AWS_ENDPOINT_URL": "", "AWS_REGION": "us-west-2", "AWS_CA_BUNDLE": "", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_MAX_ATTEMPTS": "1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "HTTPS_PROXY": "", "HTTP_PROXY": "", "https_proxy": "", "http_proxy": "",
	} {
		t.Setenv(name, value)
	}
}

// ovenbird runs a command as a shell would.
func ovenbird(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "ovenbird", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(operator.Commands()...)
	var out, problems bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&problems)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), problems.String(), err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, _, err := ovenbird(t, args...)
	if err != nil {
		t.Fatalf("ovenbird %s: %v", strings.Join(args, " "), err)
	}
	return stdout
}

func createDemo(t *testing.T, more ...string) string {
	t.Helper()
	return must(t, append([]string{"cluster", "create", "demo", "--subnets", "subnet-a,subnet-b", "--role-arn", "arn:aws:iam::111122223333:role/c"}, more...)...)
}

// activate does what the reconciler would, with the keys in stateDir.
func activate(t *testing.T, r *registry.Registry, stateDir string) {
	t.Helper()
	if err := tryActivate(r, stateDir); err != nil {
		t.Fatal(err)
	}
}

func tryActivate(r *registry.Registry, stateDir string) error {
	directory := filepath.Join(stateDir, "clusters/demo/pki")
	if _, err := pki.Ensure(directory, pki.Spec{Authorities: []pki.AuthorityRequest{{Name: "ca", CommonName: "demo"}}}, time.Now()); err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(directory, "ca.crt"))
	if err != nil {
		return err
	}
	_, err = r.Change(context.Background(), "demo", func(c *registry.Cluster) error {
		c.Issuer = "https://10.0.0.10:8443/clusters/demo"
		c.Status = registry.Status{Phase: registry.PhaseActive, Endpoint: "https://10.0.0.10:6443", CertificateAuthority: authority}
		return nil
	})
	return err
}

func TestAClusterByCommands(t *testing.T) {
	r := service(t)
	if out := createDemo(t, "--tag", "team=bakers"); !strings.Contains(out, "demo  CREATING  1.37") {
		t.Errorf("create printed %q", out)
	}
	var shown struct {
		Name, Status, Version, VPCID string
		Tags                         map[string]string
	}
	if err := json.Unmarshal([]byte(must(t, "cluster", "describe", "demo", "--output", "json")), &shown); err != nil || shown.Status != "CREATING" || shown.VPCID != "vpc-1" || shown.Tags["team"] != "bakers" {
		t.Errorf("describe: %+v, %v", shown, err)
	}
	if out := must(t, "cluster", "describe", "demo"); !strings.Contains(out, "arn:aws:eks:us-west-2:111122223333:cluster/demo") {
		t.Errorf("describe printed %q", out)
	}
	var all []struct{ Name string }
	if err := json.Unmarshal([]byte(must(t, "cluster", "list", "-o", "json")), &all); err != nil || len(all) != 1 || all[0].Name != "demo" {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, _, err := ovenbird(t, "cluster", "wait", "demo", "--timeout", "10ms"); err == nil || !strings.Contains(err.Error(), "still CREATING after 10ms") {
		t.Errorf("a wait that is too short: %v", err)
	}

	state := t.TempDir()
	go func() {
		if err := tryActivate(r, state); err != nil {
			t.Error(err)
		}
	}()
	if out, progress, err := ovenbird(t, "cluster", "wait", "demo"); err != nil || !strings.Contains(out, "demo  ACTIVE") || strings.Contains(out, "is CREATING") {
		t.Errorf("wait printed %q and %q: %v", out, progress, err)
	}
	done := make(chan struct{})
	go func() { // the reconciler's part of a delete
		defer close(done)
		for name := range r.Watch(t.Context()) {
			if c, err := r.Get(t.Context(), name); err == nil && c.Deleting {
				_ = r.Delete(t.Context(), c)
				return
			}
		}
	}()
	if out := must(t, "cluster", "delete", "demo", "--wait"); out != "cluster demo is gone\n" {
		t.Errorf("delete printed %q", out)
	}
	<-done
	if out := must(t, "cluster", "list", "--output", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("list of nothing printed %q", out)
	}
}

func TestAccessEntriesByCommands(t *testing.T) {
	service(t)
	createDemo(t)
	create := []string{"access-entry", "create", "demo", "--principal-arn", nodeRole, "--type", "EC2_LINUX"}
	if out := must(t, create...); !strings.Contains(out, "system:nodes") {
		t.Errorf("create printed %q", out)
	}
	if _, _, err := ovenbird(t, create...); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("second create: %v", err)
	}
	must(t, append(create, "--if-missing")...)
	if _, _, err := ovenbird(t, "access-entry", "create", "demo", "--principal-arn", nodeRole, "--if-missing"); err == nil || !strings.Contains(err.Error(), "of type EC2_LINUX") {
		t.Errorf("create of another type: %v", err)
	}
	if out := must(t, "access-entry", "list", "demo"); !strings.Contains(out, nodeRole) || !strings.Contains(out, "user/admin") {
		t.Errorf("list printed %q", out)
	}
	must(t, "access-entry", "delete", "demo", "--principal-arn", nodeRole)
	if out := must(t, "access-entry", "list", "demo", "-o", "json"); strings.Contains(out, nodeRole) {
		t.Errorf("list after delete printed %q", out)
	}
}

func TestKubeconfigHoldsAShortAdministratorCertificate(t *testing.T) {
	r := service(t)
	createDemo(t)
	state, file := t.TempDir(), filepath.Join(t.TempDir(), "new", "kubeconfig")
	args := []string{"kubeconfig", "demo", "--state-dir", state, "--file", file, "--proxy-url", "http://127.0.0.1:3128"}
	if _, _, err := ovenbird(t, args...); err == nil || !strings.Contains(err.Error(), "CREATING") {
		t.Errorf("before it is ACTIVE: %v", err)
	}
	activate(t, r, state)
	must(t, args...)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	config, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if c := config.Clusters["demo"]; c.Server != "https://10.0.0.10:6443" || c.ProxyURL != "http://127.0.0.1:3128" || config.CurrentContext != "demo" {
		t.Errorf("cluster: %+v, context %s", c, config.CurrentContext)
	}
	block, _ := pem.Decode(config.AuthInfos["demo-admin"].ClientCertificateData)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !slices.Equal(certificate.Subject.Organization, []string{"ovenbird:cluster-admins"}) || time.Until(certificate.NotAfter) > 8*time.Hour {
		t.Errorf("certificate of %v until %v: %v", certificate.Subject, certificate.NotAfter, err)
	}

	// What else is in the file stays.
	config.Clusters["other"] = config.Clusters["demo"]
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	must(t, args...)
	if config, err = clientcmd.LoadFromFile(file); err != nil || config.Clusters["other"] == nil {
		t.Errorf("another cluster is gone from the file: %v", err)
	}
	if out := must(t, "kubeconfig", "demo", "--state-dir", state, "--file", "-"); !strings.HasPrefix(out, "apiVersion: v1") {
		t.Errorf("to standard output: %q", out)
	}
}

func TestKubeconfigRefusesKeysOfAnotherCluster(t *testing.T) {
	r := service(t)
	createDemo(t)
	state, other := t.TempDir(), t.TempDir()
	activate(t, r, other)
	activate(t, r, state) // whose key the API describes
	file := filepath.Join(t.TempDir(), "kubeconfig")
	for directory, want := range map[string]string{other: "another cluster demo", t.TempDir(): "--state-dir"} {
		if _, _, err := ovenbird(t, "kubeconfig", "demo", "--state-dir", directory, "--file", file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := os.WriteFile(file, []byte("not: [a kubeconfig"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ovenbird(t, "kubeconfig", "demo", "--state-dir", state, "--file", file); err == nil || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("over another file: %v", err)
	}
}

func TestUserDataIsWhatTheAgentReads(t *testing.T) {
	r := service(t)
	createDemo(t)
	state := t.TempDir()
	activate(t, r, state)
	authority := filepath.Join(state, "clusters/demo/pki/ca.crt")
	script, more := filepath.Join(state, "set-up.sh"), filepath.Join(state, "more.yaml")
	for file, content := range map[string]string{script: "#!/bin/sh\ntrue\n", more: "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {maxPodsExpression: max_pods - 1}}\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"user-data", "demo", "--part", script, "--part", more, "--environment", "AWS_ENDPOINT_URL=https://aws.lab.internal/", "--environment", "NO_PROXY=a,b=c", "--trust", authority}
	out := must(t, args...)
	read, err := nodeconfig.Parse([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	cluster := read.Spec.Cluster
	if cluster.Name != "demo" || cluster.APIServerEndpoint != "https://10.0.0.10:6443" || cluster.CIDR != "172.20.0.0/16" {
		t.Errorf("cluster: %+v", cluster)
	}
	want, _ := os.ReadFile(authority)
	if got, err := cluster.CA(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("authority: %s, %v", got, err)
	}
	if env := read.Spec.Instance.Environment["default"]; env["AWS_ENDPOINT_URL"] != "https://aws.lab.internal/" || env["NO_PROXY"] != "a,b=c" {
		t.Errorf("environment: %v", env)
	}
	if !bytes.Equal(bytes.TrimSpace(read.TrustedCAs), bytes.TrimSpace(want)) {
		t.Errorf("trusted: %s", read.TrustedCAs)
	}
	if len(read.Scripts) != 1 || read.Spec.Kubelet.MaxPodsExpression != "max_pods - 1" {
		t.Errorf("parts of one's own: %+v, %+v", read.Scripts, read.Spec.Kubelet)
	}
	if again := must(t, args...); again != out {
		t.Error("the same cluster gives other bytes")
	}
}

func TestUserDataRefusesWhatNoNodeShouldGet(t *testing.T) {
	r := service(t)
	createDemo(t)
	state := t.TempDir()
	activate(t, r, state)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"want NAME=VALUE":          {"--environment", "AWS_REGION"},
		"given twice":              {"--environment", "A=1", "--environment", "A=2"},
		"not the name":             {"--environment", "A B=1"},
		"must be one line":         {"--environment", "A=1\n2"},
		"no PEM certificate":       {"--trust", empty},
		"name a file of certifica": {"--trust", filepath.Join(state, "clusters/demo/pki/ca.key")},
		"no such file":             {"--trust", filepath.Join(state, "none")},
		"no node could read":       {"--part", empty},
	} {
		if out, _, err := ovenbird(t, append([]string{"user-data", "demo"}, args...)...); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%v: got %v and %q, want an error with %q", args, err, out, want)
		}
	}
}

func TestAMistakeIsOneClearLine(t *testing.T) {
	service(t)
	tests := []struct {
		want string
		args []string
	}{
		{`name: "a/b" must begin`, []string{"cluster", "create", "a/b", "--subnets", "subnet-a,subnet-b", "--role-arn", nodeRole}},
		{"unsupported Kubernetes version", []string{"cluster", "create", "x", "--subnets", "subnet-a,subnet-b", "--version", "1.2", "--role-arn", nodeRole}},
		{"at least two subnets", []string{"cluster", "create", "x", "--subnets", "subnet-a", "--role-arn", nodeRole}},
		{`required flag(s) "subnets"`, []string{"cluster", "create", "x"}},
		{"No cluster found for name: x.", []string{"cluster", "describe", "x"}},
		{"cluster x does not exist", []string{"cluster", "wait", "x"}},
		{"No cluster found", []string{"kubeconfig", "x"}},
		{"No cluster found", []string{"user-data", "x"}},
		{"is not a cluster name", []string{"kubeconfig", "../x"}},
		{"want the name of one cluster", []string{"cluster", "delete"}},
		{`unknown command "make"`, []string{"cluster", "make"}},
	}
	for _, tt := range tests {
		stdout, _, err := ovenbird(t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "operation error") || stdout != "" {
			t.Errorf("%v: got %v and %q, want one line with %q", tt.args, err, stdout, tt.want)
		}
	}
}

func TestWithoutAServiceTheErrorSaysWhatToCheck(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	environment(t, server.URL)
	server.Close()
	_, _, err := ovenbird(t, "cluster", "list")
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "is the service running") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a service that is down: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_EKS", "")
	for _, args := range [][]string{{"cluster", "create", "x", "--subnets", "a,b"}, {"cluster", "delete", "x"}} {
		if _, _, err := ovenbird(t, args...); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL_EKS") {
			t.Errorf("%v without an endpoint: %v", args, err)
		}
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, _, err := ovenbird(t, "cluster", "list"); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
}

func TestTheRoleDefaultsToTheCallersAccount(t *testing.T) {
	r := service(t)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
			<Arn>arn:aws:iam::111122223333:user/admin</Arn><UserId>AID</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	t.Cleanup(sts.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	must(t, "cluster", "create", "demo", "--subnets", "subnet-a,subnet-b")
	if c, err := r.Get(t.Context(), "demo"); err != nil || c.RoleARN != "arn:aws:iam::111122223333:role/ovenbird-cluster" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no description", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	for _, cmd := range operator.Commands() {
		visit(cmd)
	}
}
