package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// checkForeignNames takes one node's own certificate, as someone who broke into it
// would, and asks with it for certificates that belong to another node.
func checkForeignNames(ctx context.Context, t *testing.T, l *lab, victim corev1.Node, thief string) {
	asThief := l.nodeClient(ctx, t, thief)
	thiefNode, err := asThief.CoreV1().Nodes().Get(ctx, thief, metav1.GetOptions{})
	if err != nil {
		t.Fatalf("the node's certificate does not work at all: %v", err)
	}
	const client, serving = certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName
	for name, test := range map[string]struct {
		signer  string
		subject string
		ip      string
		want    string
	}{
		"a client certificate for another node":       {client, victim.Name, "", forbidden},
		"a client certificate for a name of nobody":   {client, "ip-10-0-99-99.us-west-2.compute.internal", "", forbidden},
		"a serving certificate for another node":      {serving, victim.Name, internalIP(victim), forbidden},
		"a serving certificate for another's address": {serving, thief, internalIP(victim), denied},
		"its own serving certificate":                 {serving, thief, internalIP(*thiefNode), approved},
	} {
		t.Run(name, func(t *testing.T) {
			if got := request(ctx, t, asThief, test.signer, test.subject, test.ip); got != test.want {
				t.Errorf("the request was %s, want %s", got, test.want)
			}
		})
	}
}

// What can become of a request: the API server does not take it, or the approver decides.
const (
	forbidden = "forbidden"
	denied    = string(certificatesv1.CertificateDenied)
	approved  = string(certificatesv1.CertificateApproved)
)

// nodeClient reads a node's key and certificate through a pod with the host's files, and
// returns a client that is that node.
func (l *lab) nodeClient(ctx context.Context, t *testing.T, node string) *kubernetes.Clientset {
	t.Helper()
	pod := busybox("thief", node, "sleep 3600")
	pod.Spec.Volumes = []corev1.Volume{{Name: "pki", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet/pki"}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "pki", MountPath: "/pki", ReadOnly: true}}
	startPod(t, l.client(t), pod)
	// The current pair is a symbolic link with an absolute path of the host.
	pair, err := l.inPod(t, "thief", "sh", "-c", "cat /pki/$(basename $(readlink /pki/kubelet-client-current.pem))")
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(l.restConfig(t))
	config.CertData, config.KeyData = []byte(pair), []byte(pair)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// request files a signing request and returns what becomes of it.
func request(ctx context.Context, t *testing.T, client kubernetes.Interface, signer, node, ip string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}}
	usage := certificatesv1.UsageClientAuth
	if signer == certificatesv1.KubeletServingSignerName {
		usage = certificatesv1.UsageServerAuth
		template.DNSNames, template.IPAddresses = []string{node}, []net.IP{net.ParseIP(ip)}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	requests := client.CertificatesV1().CertificateSigningRequests()
	filed, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: signer,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) {
		return forbidden
	}
	if err != nil {
		t.Fatalf("file the request: %v", err)
	}
	selector := fields.OneTermEqualSelector("metadata.name", filed.Name).String()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			return requests.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return requests.Watch(ctx, options)
		},
	}
	var verdict string
	_, err = toolswatch.UntilWithSync(ctx, source, &certificatesv1.CertificateSigningRequest{}, nil, func(event watch.Event) (bool, error) {
		csr, ok := event.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok || len(csr.Status.Conditions) == 0 {
			return false, nil
		}
		verdict = string(csr.Status.Conditions[0].Type)
		if verdict == denied && strings.TrimSpace(csr.Status.Conditions[0].Message) == "" {
			t.Error("denied without a reason")
		}
		return true, nil
	})
	if err != nil {
		t.Fatalf("no verdict on %s: %v", filed.Name, err)
	}
	return verdict
}
