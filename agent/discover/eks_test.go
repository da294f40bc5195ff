package discover_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// service is an EKS API with one answer, and counts what it is asked.
type service struct {
	status int
	kind   string // of an error
	body   string
	delay  chan struct{}
	calls  []*http.Request
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls = append(s.calls, r)
	if s.delay != nil {
		<-s.delay
	}
	if s.kind != "" {
		w.Header().Set("X-Amzn-Errortype", s.kind)
	}
	if s.status >= 300 && s.status < 400 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.body)
}

// start starts s and returns how to call it.
func (s *service) start(t *testing.T) discover.EKS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return discover.EKS{
		Region: "us-west-2", Endpoint: server.URL,
		TrustedCAs: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "session"}, nil
		}),
	}
}

func answer(status, ca, network string) string {
	return fmt.Sprintf(`{"cluster":{"name":"demo","status":%q,"endpoint":"https://ABC.gr7.us-west-2.eks.amazonaws.com","certificateAuthority":{"data":%q},"kubernetesNetworkConfig":%s}}`,
		status, ca, network)
}

const ipv4 = `{"serviceIpv4Cidr":"172.20.0.0/16","ipFamily":"ipv4"}`

func TestNoMoreAWSCallsAreMadeThanTheNodeConfigLeavesNecessary(t *testing.T) {
	ca := base64.StdEncoding.EncodeToString(authority(t))
	complete := nodeconfig.Cluster{Name: "demo", APIServerEndpoint: "https://host", CIDR: "10.100.0.0/16", CertificateAuthority: ca}
	for name, test := range map[string]struct {
		config nodeconfig.Cluster
		tags   map[string]string
		status string
		net    string
		calls  int
		dns    string
		fails  string
	}{
		"a complete NodeConfig":      {config: complete, tags: map[string]string{"ovenbird.dev-cluster": "other"}, dns: "10.100.0.10"},
		"only a name":                {config: nodeconfig.Cluster{Name: "demo"}, calls: 1, dns: "172.20.0.10"},
		"a name, while it updates":   {config: nodeconfig.Cluster{Name: "demo"}, status: "UPDATING", calls: 1, dns: "172.20.0.10"},
		"a name, and IPv6":           {config: nodeconfig.Cluster{Name: "demo"}, net: `{"serviceIpv6Cidr":"fd12:3456::/108","ipFamily":"ipv6"}`, calls: 1, dns: "fd12:3456::a"},
		"only Ovenbird's tag":        {tags: map[string]string{"ovenbird.dev-cluster": "demo", "eks:cluster-name": "other"}, calls: 1, dns: "172.20.0.10"},
		"only Amazon's tag":          {tags: map[string]string{"eks:cluster-name": "demo"}, calls: 1, dns: "172.20.0.10"},
		"neither name nor tag":       {fails: "nothing names the cluster: put spec.cluster.name into user-data, or give the instance the tag ovenbird.dev-cluster and turn on its tags in instance metadata"},
		"a tag that is no name":      {tags: map[string]string{"ovenbird.dev-cluster": "../x"}, fails: `the instance's tag ovenbird.dev-cluster is "../x", which is no cluster's name`},
		"a part of where it is":      {config: nodeconfig.Cluster{Name: "demo", CIDR: "10.100.0.0/16"}, fails: "spec.cluster.apiServerEndpoint: missing; spec.cluster.certificateAuthority: missing"},
		"where it is without a name": {config: nodeconfig.Cluster{APIServerEndpoint: "https://host", CIDR: "10.100.0.0/16", CertificateAuthority: ca}, fails: "spec.cluster.name: missing"},
		"a cluster in the making":    {config: nodeconfig.Cluster{Name: "demo"}, status: "CREATING", calls: 1, fails: "cluster demo is CREATING: a node can join once it is ACTIVE or UPDATING"},
		"a cluster without services": {config: nodeconfig.Cluster{Name: "demo"}, net: `{}`, calls: 1, fails: "EKS does not describe cluster demo as a node needs it: spec.cluster.cidr: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.status == "" {
				test.status = "ACTIVE"
			}
			if test.net == "" {
				test.net = ipv4
			}
			s := &service{status: 200, body: answer(test.status, ca, test.net)}
			eks := s.start(t)
			got, err := discover.Sources{
				Tag:      func(_ context.Context, key string) (string, error) { return test.tags[key], nil },
				Describe: eks.Describe,
			}.Cluster(t.Context(), test.config)
			if len(s.calls) != test.calls {
				t.Errorf("%d calls, want %d", len(s.calls), test.calls)
			}
			for _, call := range s.calls {
				signed := call.Header.Get("Authorization")
				if call.Method != http.MethodGet || call.URL.Path != "/clusters/demo" ||
					!strings.Contains(signed, "/us-west-2/eks/aws4_request") || call.Header.Get("X-Amz-Security-Token") != "session" {
					t.Errorf("called %s %s, signed %s", call.Method, call.URL, signed)
				}
			}
			if test.fails != "" {
				if err == nil || err.Error() != test.fails {
					t.Errorf("got %v, want %s", err, test.fails)
				}
				return
			}
			if err != nil || got.Name != "demo" || got.DNS().String() != test.dns {
				t.Errorf("got %+v, %v; want DNS %s", got, err, test.dns)
			}
		})
	}
}

func TestWhatKeepsEKSFromAnsweringIsSaidInOneCall(t *testing.T) {
	for name, test := range map[string]struct {
		service service
		says    string
	}{
		"throttled": {service: service{status: 429, kind: "ThrottlingException", body: `{"message":"Rate exceeded"}`},
			says: "429 ThrottlingException: Rate exceeded"},
		"out of service": {service: service{status: 503, kind: "ServiceUnavailableException", body: `{"message":"later"}`},
			says: "503 ServiceUnavailableException: later"},
		"not allowed": {service: service{status: 403, kind: "AccessDeniedException", body: `{"message":"not authorized"}`},
			says: "403 AccessDeniedException: not authorized (allow the instance's role eks:DescribeCluster, as docs/iam.md does, or put spec.cluster's apiServerEndpoint,"},
		"an unknown key": {service: service{status: 403, kind: "UnrecognizedClientException", body: `{"message":"no such key"}`},
			says: "an endpoint that does not know the instance's role cannot be asked"},
		"no such cluster": {service: service{status: 404, kind: "ResourceNotFoundException", body: `{"message":"No cluster found for name: demo."}`},
			says: "404 ResourceNotFoundException: No cluster found for name: demo. (is there a cluster demo in this account and region?)"},
		"a redirect":          {service: service{status: 302}, says: "302"},
		"an oversized answer": {service: service{status: 200, body: `{"cluster":{"name":"` + strings.Repeat("x", 300<<10) + `"}}`}, says: "the answer is longer than 262144 bytes"},
		"no JSON":             {service: service{status: 200, body: "<html>"}, says: "deserialization failed"},
		"no cluster in it":    {service: service{status: 200, body: "{}"}, says: "it answered without one"},
	} {
		t.Run(name, func(t *testing.T) {
			eks := test.service.start(t)
			_, err := eks.Describe(t.Context(), "demo")
			if err == nil || !strings.HasPrefix(err.Error(), "ask EKS about cluster demo: ") || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s", err, test.says)
			}
			if len(test.service.calls) != 1 {
				t.Errorf("%d calls", len(test.service.calls))
			}
		})
	}
}

func TestAnUntrustedEndpointIsNotAsked(t *testing.T) {
	s := &service{status: 200}
	eks := s.start(t)
	eks.TrustedCAs = authority(t)
	if _, err := eks.Describe(t.Context(), "demo"); err == nil || !strings.Contains(err.Error(), "failed to verify certificate") {
		t.Errorf("got %v", err)
	}
	eks.Endpoint = "http://127.0.0.1:1"
	if _, err := eks.Describe(t.Context(), "demo"); err == nil || !strings.Contains(err.Error(), "is not of the form https://host") {
		t.Errorf("got %v", err)
	}
	if len(s.calls) != 0 {
		t.Errorf("%d calls", len(s.calls))
	}
}

func TestASlowEndpointIsGivenUpWithTheCallersReason(t *testing.T) {
	s := &service{status: 200, delay: make(chan struct{})}
	eks := s.start(t)
	t.Cleanup(func() { close(s.delay) })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("still nothing"))
	defer cancel()
	if _, err := eks.Describe(ctx, "demo"); err == nil || err.Error() != "ask EKS about cluster demo: still nothing" {
		t.Errorf("got %v", err)
	}
}

func TestAmazonEKSIsKnownByItsEndpoint(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"https://ABC123.gr7.us-west-2.eks.amazonaws.com":                     true,
		"https://abc123.sk1.cn-north-1.eks.amazonaws.com.cn":                 true,
		"https://ABC123.yl4.us-iso-east-1.eks.c2s.ic.gov":                    true,
		"https://ABC123.eks-cluster.eu-central-1.api.aws":                    true,
		"https://ABC123.eks-cluster.cn-north-1.api.amazonwebservices.com.cn": true,
		"https://10.0.0.10:6443":                                             false,
		"https://demo.example.com":                                           false,
		"https://eks.amazonaws.com.example.com":                              false,
		"https://ABC123.gr7.us-west-2.eks.amazonaws.com.example.com":         false,
		"https://nlb-0123.elb.us-west-2.amazonaws.com":                       false,
		"https://host/.eks.amazonaws.com":                                    false,
	} {
		if got := (discover.Cluster{Endpoint: endpoint}).IsAmazonEKS(); got != want {
			t.Errorf("%s: got %t", endpoint, got)
		}
	}
}

func TestServicesHaveTheSuffixOfTheirPartition(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "amazonaws.com", "us-gov-west-1": "amazonaws.com", "cn-north-1": "amazonaws.com.cn",
		"us-iso-east-1": "c2s.ic.gov", "us-isob-east-1": "sc2s.sgov.gov", "eusc-de-east-1": "amazonaws.eu",
	} {
		if got := discover.DNSSuffix(region); got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
	}
}
