package iam_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/zap/zaptest"
	authentication "k8s.io/api/authentication/v1"
	certificates "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/access"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam/awsauth"
	"github.com/ovenbird-dev/ovenbird/control-plane/kubetest"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	adminARN   = "arn:aws:iam::111122223333:user/admin"
	nodeRole   = "arn:aws:iam::111122223333:role/ovenbird-node"
	clusterARN = "arn:aws:eks:us-west-2:111122223333:cluster/kitchen"
	firstNode  = "ip-10-0-0-1.us-west-2.compute.internal"
)

// account is an AWS account: STS that verifies signatures, and EC2 with a few instances.
// An access key is the ARN of its holder.
type account struct {
	mu        sync.Mutex
	instances []types.Instance
	err       error // of lookups by name
	asked     int   // how often by name
}

func (a *account) Lookup(_ context.Context, arn string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: arn, SecretAccessKey: "secret", ARN: strings.ReplaceAll(arn, "|", "/")}, nil
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, err := sigv4.Verifier{Keys: a, Region: "us-west-2", Service: "sts"}.Verify(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	fmt.Fprintf(w, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"111122223333","Arn":%q,"UserId":"AID"}}}`, caller.ARN)
}

func (a *account) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if byName := len(in.InstanceIds) == 0; byName {
		a.asked++
		if a.err != nil {
			return nil, a.err
		}
	}
	var found []types.Instance
	for _, i := range a.instances {
		if len(in.InstanceIds) == 0 || slices.Contains(in.InstanceIds, *i.InstanceId) {
			found = append(found, i)
		}
	}
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{{Instances: found}}}, nil
}

func (a *account) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err, a.asked = err, 0
}

func (a *account) calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// instance is the nth: ip-10-0-0-n, i-0000000n.
func instance(n int) types.Instance {
	return types.Instance{
		InstanceId: aws.String(fmt.Sprintf("i-%08x", n)), VpcId: aws.String("vpc-1"),
		PrivateDnsName:   aws.String(fmt.Sprintf("ip-10-0-0-%d.us-west-2.compute.internal", n)),
		PrivateIpAddress: aws.String(fmt.Sprintf("10.0.0.%d", n)), State: &types.InstanceState{Name: "running"},
		IamInstanceProfile: &types.IamInstanceProfile{Arn: aws.String("arn:aws:iam::111122223333:instance-profile/ovenbird-node")},
		Tags:               []types.Tag{{Key: aws.String("kubernetes.io/cluster/kitchen"), Value: aws.String("owned")}},
	}
}

// place is a cluster with its API server, webhook and approver, all real.
type place struct {
	*account
	registry   *registry.Registry
	configMaps *awsauth.Clusters
	principals iam.Principals
	cluster    registry.Cluster
	instances  *nodes.Instances
	roster     *nodes.Roster
	events     *events
	admin      *rest.Config
	sts        string
}

// open starts the place; flags go to its API server.
func open(t *testing.T, flags ...string) *place {
	t.Helper()
	etcd := registrytest.Etcd(t)
	p := &place{account: &account{instances: []types.Instance{instance(1), instance(2)}}, registry: registry.New(etcd)}
	p.instances = nodes.NewInstances(p.account, nil)
	p.configMaps = awsauth.NewClusters(zaptest.NewLogger(t))
	p.principals = iam.Principals{Registry: p.registry, ConfigMaps: p.configMaps}
	p.events = &events{}
	p.roster = nodes.NewRoster(p.instances, p.events, zaptest.NewLogger(t))
	var err error
	p.cluster, err = p.registry.Create(t.Context(), registry.Cluster{Name: "kitchen", ARN: clusterARN, VPCID: "vpc-1"},
		registry.AccessEntry{PrincipalARN: adminARN, Type: registry.TypeStandard, Policies: []registry.AssociatedPolicy{{ARN: registry.ClusterAdminPolicy}}},
		registry.AccessEntry{PrincipalARN: nodeRole, Type: registry.TypeEC2Linux})
	if err != nil {
		t.Fatal(err)
	}
	sts := tlsServer(t, p.account)
	p.sts = strings.TrimPrefix(sts.URL, "https://")
	verifier := ststoken.Verifier{HTTP: sts.Client(), Host: p.sts}
	webhook := tlsServer(t, iam.NewWebhook(p.principals, verifier, p.roster, zaptest.NewLogger(t)))
	p.admin = kubetest.APIServer(t, etcd, webhook, "/clusters/kitchen/tokenreview", flags...)
	return p
}

// attend runs the roster and the approver until the test ends, and returns when tokens of
// nodes are accepted.
func (p *place) attend(t *testing.T) {
	t.Helper()
	p.keepRoster(t)
	p.approve(t)
}

func (p *place) keepRoster(t *testing.T) {
	t.Helper()
	p.beside(t, kubernetes.NewForConfigOrDie(p.admin), p.roster.Run)
	eventually(t, 30*time.Second, func(ctx context.Context) error { return p.roster.Vacate(ctx, "kitchen", nodes.Instance{}) })
}

func (p *place) approve(t *testing.T) {
	t.Helper()
	p.beside(t, kubernetes.NewForConfigOrDie(p.admin), nodes.Approver{
		Instances: p.instances, Entries: p.principals, Ledger: p.registry, Roster: p.roster,
		Recorder: p.events, Pending: p.events, Log: zaptest.NewLogger(t),
	}.Run)
}

// events keeps what was recorded.
type events struct {
	mu  sync.Mutex
	all []nodes.Event
}

func (e *events) Record(event nodes.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// about returns what was recorded of a certificate request.
func (e *events) about(request string) (found []nodes.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.Request == request {
			found = append(found, event)
		}
	}
	return found
}

func (e *events) Watch(string, func() int) func() { return func() {} }

// as returns a client that holds only a token, made by arn for the cluster.
func (p *place) as(t *testing.T, arn, cluster string) kubernetes.Interface {
	t.Helper()
	config := rest.AnonymousClientConfig(p.admin)
	config.BearerToken = p.token(t, arn, cluster)
	return kubernetes.NewForConfigOrDie(config)
}

// token returns one that arn has made for the cluster.
func (p *place) token(t *testing.T, arn, cluster string) string {
	t.Helper()
	signer := ststoken.Signer{Region: "us-west-2", Endpoint: "https://" + p.sts + "/",
		Credentials: credentials.NewStaticCredentialsProvider(strings.ReplaceAll(arn, "/", "|"), "secret", "")}
	token, _, err := signer.Token(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func nodeARN(n int) string {
	return fmt.Sprintf("arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-%08x", n)
}

func (p *place) whoami(ctx context.Context, client kubernetes.Interface) (authentication.UserInfo, error) {
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authentication.SelfSubjectReview{}, meta.CreateOptions{})
	if err != nil {
		return authentication.UserInfo{}, err
	}
	return review.Status.UserInfo, nil
}

// file makes a request for a certificate and returns its name.
func file(t *testing.T, client kubernetes.Interface, signer, node string, purpose certificates.KeyUsage, ips ...net.IP) string {
	t.Helper()
	name, err := tryFile(t, client, signer, node, purpose, ips...)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func tryFile(t *testing.T, client kubernetes.Interface, signer, node string, purpose certificates.KeyUsage, ips ...net.IP) (string, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}, IPAddresses: ips,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certificates.CertificateSigningRequest{
		ObjectMeta: meta.ObjectMeta{GenerateName: "csr-"},
		Spec: certificates.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer,
			Usages: []certificates.KeyUsage{certificates.UsageDigitalSignature, purpose},
		},
	}, meta.CreateOptions{})
	if err != nil {
		return "", err
	}
	return csr.Name, nil
}

// decision waits for a request's answer.
func decision(t *testing.T, admin kubernetes.Interface, name string) (decided certificates.CertificateSigningRequestCondition) {
	t.Helper()
	eventually(t, 60*time.Second, func(ctx context.Context) error {
		csr, err := admin.CertificatesV1().CertificateSigningRequests().Get(ctx, name, meta.GetOptions{})
		if err != nil {
			return err
		}
		if len(csr.Status.Conditions) == 0 {
			return errors.New("no decision")
		}
		decided = csr.Status.Conditions[0]
		return nil
	})
	return decided
}

func TestJoiningARealAPIServer(t *testing.T) {
	p := open(t)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	node := p.as(t, nodeARN(1), "kitchen")
	const client, serving = certificates.KubeAPIServerClientKubeletSignerName, certificates.KubeletServingSignerName

	if user, err := p.whoami(t.Context(), node); !apierrors.IsUnauthorized(err) {
		t.Errorf("while the Nodes are not known: got %+v, %v, want unauthorized", user, err)
	}
	p.keepRoster(t)
	// Filed before the approver starts: it answers what is pending.
	early := file(t, node, client, firstNode, certificates.UsageClientAuth)
	p.approve(t)

	t.Run("a token is its instance, and no more", func(t *testing.T) {
		user, err := p.whoami(t.Context(), node)
		if err != nil || user.Username != "system:node:"+firstNode || user.UID != "i-00000001" || !slices.Contains(user.Groups, "system:nodes") {
			t.Errorf("got %+v, %v", user, err)
		}
		if _, err := node.CoreV1().Secrets("kube-system").List(t.Context(), meta.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("secrets: got %v, want forbidden", err)
		}
	})
	t.Run("a token of an administrator is in the group of the policy", func(t *testing.T) {
		user, err := p.whoami(t.Context(), p.as(t, adminARN, "kitchen"))
		if err != nil || user.Username != adminARN || !slices.Contains(user.Groups, access.Role(registry.ClusterAdminPolicy)) {
			t.Errorf("got %+v, %v", user, err)
		}
	})
	t.Run("nobody else gets in", func(t *testing.T) {
		for name, client := range map[string]kubernetes.Interface{
			"a token for another cluster": p.as(t, nodeARN(1), "pantry"),
			"an unknown user":             p.as(t, "arn:aws:iam::111122223333:user/mallory", "kitchen"),
			"a session that is no node":   p.as(t, "arn:aws:sts::111122223333:assumed-role/ovenbird-node/jane", "kitchen"),
			"an instance that is gone":    p.as(t, nodeARN(9), "kitchen"),
			"nobody":                      kubernetes.NewForConfigOrDie(rest.AnonymousClientConfig(p.admin)),
		} {
			if user, err := p.whoami(t.Context(), client); !apierrors.IsUnauthorized(err) {
				t.Errorf("%s: got %+v, %v, want unauthorized", name, user, err)
			}
		}
	})
	t.Run("a request in the node's own name is approved", func(t *testing.T) {
		for _, name := range []string{
			early,
			file(t, node, client, firstNode, certificates.UsageClientAuth),
			file(t, node, serving, firstNode, certificates.UsageServerAuth, net.IPv4(10, 0, 0, 1)),
		} {
			if d := decision(t, admin, name); d.Type != certificates.CertificateApproved || !strings.Contains(d.Message, "i-00000001") {
				t.Errorf("%s: got %s %s: %s", name, d.Type, d.Reason, d.Message)
			}
		}
	})
	t.Run("a request for another node's name or address is denied", func(t *testing.T) {
		// Kubernetes' own admission plugin stops the plainest case before the approver sees it.
		if name, err := tryFile(t, node, client, "ip-10-0-0-2.us-west-2.compute.internal", certificates.UsageClientAuth); !apierrors.IsForbidden(err) {
			t.Errorf("got %s, %v, want forbidden", name, err)
		}
		for name, want := range map[string]string{
			file(t, node, serving, firstNode, certificates.UsageServerAuth, net.IPv4(10, 0, 0, 2)): "10.0.0.2 is not that of instance",
			file(t, admin, client, firstNode, certificates.UsageClientAuth):                        "not a node",
		} {
			if d := decision(t, admin, name); d.Type != certificates.CertificateDenied || !strings.Contains(d.Message, want) {
				t.Errorf("got %s: %s, want a denial with %q", d.Type, d.Message, want)
			}
		}
	})
	t.Run("requests to other signers are left alone", func(t *testing.T) {
		other := file(t, admin, certificates.KubeAPIServerClientSignerName, firstNode, certificates.UsageClientAuth)
		// One that comes later is decided, this one is not.
		decision(t, admin, file(t, node, client, firstNode, certificates.UsageClientAuth))
		csr, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), other, meta.GetOptions{})
		if err != nil || len(csr.Status.Conditions) != 0 {
			t.Errorf("got %+v, %v", csr.Status.Conditions, err)
		}
	})
	t.Run("while EC2 fails nothing is decided, afterwards it is", func(t *testing.T) {
		second := p.as(t, nodeARN(2), "kitchen") // whose name nobody has looked up yet
		if _, err := p.whoami(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		p.fail(errors.New("throttled"))
		name := file(t, second, client, "ip-10-0-0-2.us-west-2.compute.internal", certificates.UsageClientAuth)
		eventually(t, 30*time.Second, func(context.Context) error {
			if p.calls() < 2 {
				return errors.New("EC2 has not been asked twice")
			}
			return nil
		})
		csr, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), name, meta.GetOptions{})
		if err != nil || len(csr.Status.Conditions) != 0 {
			t.Errorf("got %+v, %v, want no decision", csr.Status.Conditions, err)
		}
		p.fail(nil)
		if d := decision(t, admin, name); d.Type != certificates.CertificateApproved {
			t.Errorf("got %s: %s", d.Type, d.Message)
		}
	})
	t.Run("an entry that is taken away shuts the door", func(t *testing.T) {
		if err := p.registry.DeleteAccessEntry(t.Context(), "kitchen", nodeRole); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			if user, err := p.whoami(ctx, node); !apierrors.IsUnauthorized(err) {
				return fmt.Errorf("got %+v, %w", user, err)
			}
			return nil
		})
	})
}
