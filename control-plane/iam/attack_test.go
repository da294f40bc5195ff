package iam_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/kubetest"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const secondNode = "ip-10-0-0-2.us-west-2.compute.internal"

// application is a certificate request that a test may bend.
type application struct {
	certificates.CertificateSigningRequestSpec
	template x509.CertificateRequest
	key      crypto.Signer
}

// apply files a node's good request for the signer, changed, and returns its name and key.
func apply(t *testing.T, client kubernetes.Interface, signer, node string, change func(*application)) (string, crypto.Signer, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := application{key: key, template: x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{nodes.Group}},
	}}
	a.SignerName, a.Usages = signer, []certificates.KeyUsage{certificates.UsageDigitalSignature, certificates.UsageClientAuth}
	if signer == certificates.KubeletServingSignerName {
		a.Usages[1], a.template.IPAddresses = certificates.UsageServerAuth, []net.IP{net.IPv4(10, 0, 0, 1)}
	}
	if change != nil {
		change(&a)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &a.template, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	csr, err := client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certificates.CertificateSigningRequest{
		ObjectMeta: meta.ObjectMeta{GenerateName: "csr-"}, Spec: a.CertificateSigningRequestSpec,
	}, meta.CreateOptions{})
	if err != nil {
		return "", nil, err
	}
	return csr.Name, a.key, nil
}

// certificate waits until a request is signed.
func certificate(t *testing.T, admin kubernetes.Interface, name string) (signed []byte) {
	t.Helper()
	eventually(t, 60*time.Second, func(ctx context.Context) error {
		csr, err := admin.CertificatesV1().CertificateSigningRequests().Get(ctx, name, meta.GetOptions{})
		if err == nil && len(csr.Status.Certificate) == 0 {
			err = fmt.Errorf("no certificate: %+v", csr.Status.Conditions)
		}
		if err == nil {
			signed = csr.Status.Certificate
		}
		return err
	})
	return signed
}

// enroll gets a certificate and returns a client that holds it.
func (p *place) enroll(t *testing.T, client kubernetes.Interface) (*x509.Certificate, kubernetes.Interface) {
	t.Helper()
	const month = int32(30 * 24 * 3600)
	name, key, err := apply(t, client, certificates.KubeAPIServerClientKubeletSignerName, firstNode, func(a *application) { a.ExpirationSeconds = aws.Int32(month) })
	if err != nil {
		t.Fatal(err)
	}
	signed := certificate(t, kubernetes.NewForConfigOrDie(p.admin), name)
	block, _ := pem.Decode(signed)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(p.admin)
	config.CertData, config.KeyData = signed, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
	return parsed, kubernetes.NewForConfigOrDie(config)
}

// changed returns the nth instance, changed.
func changed(n int, change func(*types.Instance)) types.Instance {
	i := instance(n)
	change(&i)
	return i
}

func (a *account) setInstances(instances ...types.Instance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instances = instances
}

func TestNoTokenButThatOfARunningMemberIsAuthenticated(t *testing.T) {
	p := open(t)
	p.attend(t)
	const strangers, chinese = "arn:aws:iam::444455556666:role/ovenbird-node", "arn:aws-cn:iam::111122223333:role/ovenbird-node"
	for _, role := range []string{strangers, chinese} {
		if _, err := p.registry.CreateAccessEntry(t.Context(), registry.AccessEntry{Cluster: "kitchen", PrincipalARN: role, Type: registry.TypeEC2Linux}); err != nil {
			t.Fatal(err)
		}
	}
	profile := func(arn string) func(*types.Instance) {
		return func(i *types.Instance) { i.IamInstanceProfile.Arn = aws.String(arn) }
	}
	p.setInstances(instance(1),
		changed(11, func(i *types.Instance) { i.State.Name = types.InstanceStateNameTerminated }),
		changed(12, func(i *types.Instance) { i.State.Name = types.InstanceStateNameStopped }),
		changed(13, func(i *types.Instance) { i.VpcId = aws.String("vpc-2") }),
		changed(14, func(i *types.Instance) { i.Tags = nil }),
		changed(15, func(i *types.Instance) { i.Tags[0].Key = aws.String("kubernetes.io/cluster/pantry") }),
		changed(16, profile("arn:aws:iam::111122223333:instance-profile/web")),
		changed(17, func(i *types.Instance) { i.IamInstanceProfile = nil }),
		changed(18, profile("arn:aws:iam::444455556666:instance-profile/ovenbird-node")),
		changed(19, profile("arn:aws-cn:iam::111122223333:instance-profile/ovenbird-node")))
	session := func(partition, account, name string) string {
		return fmt.Sprintf("arn:%s:sts::%s:assumed-role/ovenbird-node/%s", partition, account, name)
	}
	if _, err := p.whoami(t.Context(), p.as(t, nodeARN(1), "kitchen")); err != nil {
		t.Fatal(err)
	}
	for name, arn := range map[string]string{
		"a session of somebody's choosing":            session("aws", "111122223333", "jane"),
		"a session named after a role":                session("aws", "111122223333", "ovenbird-node"),
		"a session named after no instance":           nodeARN(99),
		"a terminated instance":                       nodeARN(11),
		"a stopped instance":                          nodeARN(12),
		"an instance of another VPC":                  nodeARN(13),
		"an instance without the cluster's tag":       nodeARN(14),
		"an instance of another cluster":              nodeARN(15),
		"an instance with another profile":            nodeARN(16),
		"an instance without a profile":               nodeARN(17),
		"a role of another account, by its own":       session("aws", "444455556666", "i-00000012"),
		"a role of another account, by ours":          session("aws", "444455556666", "i-00000001"),
		"a role of another partition, by its own":     session("aws-cn", "111122223333", "i-00000013"),
		"a role of another partition, by ours":        session("aws-cn", "111122223333", "i-00000001"),
		"our role, by an instance of another account": nodeARN(18),
	} {
		if user, err := p.whoami(t.Context(), p.as(t, arn, "kitchen")); !apierrors.IsUnauthorized(err) {
			t.Errorf("%s: got %+v, %v, want unauthorized", name, user, err)
		}
	}
}

func TestAForgedRequestIsNeverSigned(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0") // or no weak key can be made
	p := open(t)
	p.attend(t)
	kubetest.Signer(t, p.admin, pki.NodeLifetime)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	node := p.as(t, nodeARN(1), "kitchen")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	const client, serving = certificates.KubeAPIServerClientKubeletSignerName, certificates.KubeletServingSignerName
	usage := func(usages ...certificates.KeyUsage) func(*application) {
		return func(a *application) { a.Usages = append(a.Usages, usages...) }
	}
	refused := map[string]string{}
	for name, tt := range map[string]struct {
		by     kubernetes.Interface
		signer string
		change func(*application)
		class  string // empty: the API server itself refuses it
	}{
		"another node's name":       {node, client, func(a *application) { a.template.Subject.CommonName = "system:node:" + secondNode }, ""},
		"a name without the prefix": {node, client, func(a *application) { a.template.Subject.CommonName = firstNode }, ""},
		"system:masters besides": {node, client, func(a *application) {
			a.template.Subject.Organization = append(a.template.Subject.Organization, "system:masters")
		}, nodes.ClassSubject},
		"system:masters alone":                    {node, client, func(a *application) { a.template.Subject.Organization = []string{"system:masters"} }, nodes.ClassSubject},
		"a DNS name, for a client":                {node, client, func(a *application) { a.template.DNSNames = []string{firstNode} }, nodes.ClassHosts},
		"the API server's name":                   {node, serving, func(a *application) { a.template.DNSNames = []string{"kubernetes.default.svc"} }, nodes.ClassHosts},
		"another node's address":                  {node, serving, func(a *application) { a.template.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 2)} }, nodes.ClassHosts},
		"serving and client at once":              {node, serving, usage(certificates.UsageClientAuth), nodes.ClassUsage},
		"client and serving at once":              {node, client, usage(certificates.UsageServerAuth), nodes.ClassUsage},
		"signing of certificates":                 {node, client, usage(certificates.UsageCertSign), nodes.ClassUsage},
		"a key of RSA 1024":                       {node, client, func(a *application) { a.key = weak }, nodes.ClassKey},
		"a node's name, by an administrator":      {admin, client, nil, nodes.ClassRequester},
		"a node's host, by an administrator":      {admin, serving, nil, nodes.ClassRequester},
		"an administrator's, by an administrator": {admin, client, func(a *application) { a.template.Subject.CommonName = "kubernetes-admin" }, nodes.ClassRequester},
	} {
		request, _, err := apply(t, tt.by, tt.signer, firstNode, tt.change)
		if tt.class == "" {
			if !apierrors.IsForbidden(err) {
				t.Errorf("%s: got %s, %v, want forbidden", name, request, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		refused[name] = request
		d := decision(t, admin, request)
		if d.Type != certificates.CertificateDenied || d.Message == "" {
			t.Errorf("%s: got %s: %s", name, d.Type, d.Message)
		}
		eventually(t, 10*time.Second, func(context.Context) error {
			if events := p.events.about(request); len(events) != 1 || events[0].Approved || events[0].Class != tt.class || events[0].Reason != d.Message {
				return fmt.Errorf("%s: recorded %+v, want the class %s and the reason %q", name, events, tt.class, d.Message)
			}
			return nil
		})
	}
	// The signer is at work: a good request that came later is signed.
	good, _, err := apply(t, node, client, firstNode, nil)
	if err != nil {
		t.Fatal(err)
	}
	certificate(t, admin, good)
	for name, request := range refused {
		if csr, err := admin.CertificatesV1().CertificateSigningRequests().Get(t.Context(), request, meta.GetOptions{}); err != nil || len(csr.Status.Certificate) > 0 {
			t.Errorf("%s: signed, or %v", name, err)
		}
	}
}

func TestANodeReadsTheSecretsOfItsOwnPodsOnly(t *testing.T) {
	p := open(t)
	p.attend(t)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	ctx := t.Context()
	if _, err := admin.CoreV1().Secrets("default").Create(ctx, &core.Secret{ObjectMeta: meta.ObjectMeta{Name: "recipe"}}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error { // until there are service accounts
		_, err := admin.CoreV1().ServiceAccounts("default").Create(ctx, &core.ServiceAccount{ObjectMeta: meta.ObjectMeta{Name: "default"}}, meta.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	pod := &core.Pod{ObjectMeta: meta.ObjectMeta{Name: "oven"}, Spec: core.PodSpec{
		NodeName: secondNode, Containers: []core.Container{{Name: "oven", Image: "oven"}},
		Volumes: []core.Volume{{Name: "recipe", VolumeSource: core.VolumeSource{Secret: &core.SecretVolumeSource{SecretName: "recipe"}}}},
	}}
	if _, err := admin.CoreV1().Pods("default").Create(ctx, pod, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	read := func(ctx context.Context, n int) error {
		_, err := p.as(t, nodeARN(n), "kitchen").CoreV1().Secrets("default").Get(ctx, "recipe", meta.GetOptions{})
		return err
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error { return read(ctx, 2) })
	if err := read(ctx, 1); !apierrors.IsForbidden(err) {
		t.Errorf("the other node: got %v, want forbidden", err)
	}
}

func TestANamePassesOnWithNothingOfItsFormerInstance(t *testing.T) {
	p := open(t)
	now := time.Now()
	first := changed(1, func(i *types.Instance) { i.LaunchTime = aws.Time(now) })
	p.setInstances(first)
	p.attend(t)
	kubetest.Signer(t, p.admin, pki.NodeLifetime)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	const client, serving = certificates.KubeAPIServerClientKubeletSignerName, certificates.KubeletServingSignerName
	byToken := p.as(t, nodeARN(1), "kitchen")
	signed, byCertificate := p.enroll(t, byToken)
	if lifetime := signed.NotAfter.Sub(signed.NotBefore); lifetime > pki.NodeLifetime {
		t.Errorf("a certificate for 30 days was asked for, and holds %s", lifetime)
	}
	p.mustApprove(t, byCertificate, client, "a renewal")
	p.mustApprove(t, byCertificate, serving, "a serving certificate, by certificate")
	// Its power was cut after signing: the key is lost, and another certificate comes.
	_, _ = p.enroll(t, byToken)

	// The instance ends, and another one gets its address and name.
	if _, err := admin.CoreV1().Nodes().Create(t.Context(), &core.Node{
		ObjectMeta: meta.ObjectMeta{Name: firstNode}, Spec: core.NodeSpec{ProviderID: "aws:///us-west-2a/i-00000001"},
	}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The roster has seen it once it keeps the name for the instance, which still runs.
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		if p.roster.Vacate(ctx, "kitchen", nodes.Instance{ID: "i-00000021", PrivateDNSName: firstNode}) == nil {
			return errors.New("the roster does not know the Node")
		}
		return nil
	})
	ended := changed(1, func(i *types.Instance) {
		i.State.Name, i.PrivateDnsName = types.InstanceStateNameTerminated, aws.String("")
	})
	p.setInstances(ended, changed(1, func(i *types.Instance) {
		i.InstanceId, i.LaunchTime = aws.String("i-00000021"), aws.Time(now)
	}))
	eventually(t, 60*time.Second, func(ctx context.Context) error {
		_, err := p.whoami(ctx, p.as(t, nodeARN(0x21), "kitchen"))
		return err
	})
	if node, err := admin.CoreV1().Nodes().Get(t.Context(), firstNode, meta.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the second instance has the token of a node whose Node is still that of %s: %v", node.Spec.ProviderID, err)
	}
	events, err := admin.CoreV1().Events("default").List(t.Context(), meta.ListOptions{FieldSelector: "involvedObject.name=" + firstNode})
	if err != nil || len(events.Items) != 1 || !strings.Contains(events.Items[0].Message, "its name is that of instance i-00000021") {
		t.Errorf("events of the Node: %+v, %v", events.Items, err)
	}
	if removed := p.events.about(""); len(removed) != 1 || removed[0].Class != nodes.ClassSuperseded || removed[0].Instance != "i-00000001" {
		t.Errorf("recorded %+v", removed)
	}
	_, second := p.enroll(t, p.as(t, nodeARN(0x21), "kitchen"))
	p.mustApprove(t, second, client, "the second instance's renewal")
	for _, signer := range []string{client, serving} {
		stolen, _, err := apply(t, byCertificate, signer, firstNode, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := decision(t, admin, stolen); d.Type != certificates.CertificateDenied || !strings.Contains(d.Message, "was issued to instance i-00000001") {
			t.Errorf("by the first instance's certificate: %s: %s", d.Type, d.Message)
		}
	}
}

func (p *place) mustApprove(t *testing.T, client kubernetes.Interface, signer, what string) {
	t.Helper()
	request, _, err := apply(t, client, signer, firstNode, nil)
	if err != nil {
		t.Fatal(errors.Join(errors.New(what), err))
	}
	if d := decision(t, kubernetes.NewForConfigOrDie(p.admin), request); d.Type != certificates.CertificateApproved {
		t.Errorf("%s: %s: %s", what, d.Type, d.Message)
	}
}
