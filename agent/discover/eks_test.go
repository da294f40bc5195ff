package discover_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/discover/ekstest"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// api is how to call server.
func api(server *ekstest.Server) awscall.Service {
	return awscall.Service{
		Name: "eks", Region: "us-west-2", Endpoint: server.URL, Client: awscall.NewClient(server.CA, nil, nil), Now: time.Now,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "session"}, nil
		}),
	}
}

func TestNoMoreAWSCallsAreMadeThanTheNodeConfigLeavesNecessary(t *testing.T) {
	authority := authority(t)
	ca := base64.StdEncoding.EncodeToString(authority)
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
				test.net = ekstest.IPv4
			}
			server := ekstest.Start(t, ekstest.Cluster(test.status, "https://ABC.gr7.us-west-2.eks.amazonaws.com", authority, test.net))
			got, err := discover.Sources{
				Tag: func(_ context.Context, key string) (string, error) { return test.tags[key], nil },
				Describe: func(ctx context.Context, name string) (nodeconfig.Cluster, error) {
					return discover.Describe(ctx, api(server), name)
				},
			}.Cluster(t.Context(), test.config)
			calls := server.Calls()
			if len(calls) != test.calls {
				t.Errorf("%d calls, want %d", len(calls), test.calls)
			}
			for _, call := range calls {
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
		answer ekstest.Answer
		says   string
	}{
		"throttled": {answer: ekstest.Answer{Status: 429, Error: "ThrottlingException", Body: `{"message":"Rate exceeded"}`},
			says: "429 ThrottlingException: Rate exceeded"},
		"out of service": {answer: ekstest.Answer{Status: 503, Error: "ServiceUnavailableException", Body: `{"message":"later"}`},
			says: "503 ServiceUnavailableException: later"},
		"not allowed": {answer: ekstest.Answer{Status: 403, Error: "AccessDeniedException", Body: `{"message":"not authorized"}`},
			says: "403 AccessDeniedException: not authorized (allow the instance's role eks:DescribeCluster, as docs/iam.md does, or put spec.cluster's apiServerEndpoint,"},
		"an unknown key": {answer: ekstest.Answer{Status: 403, Error: "UnrecognizedClientException", Body: `{"message":"no such key"}`},
			says: "an endpoint that does not know the instance's role cannot be asked"},
		"no such cluster": {answer: ekstest.Answer{Status: 404, Error: "ResourceNotFoundException", Body: `{"message":"No cluster found for name: demo."}`},
			says: "404 ResourceNotFoundException: No cluster found for name: demo. (is there a cluster demo in this account and region?)"},
		"a redirect":          {answer: ekstest.Answer{Status: 302}, says: "302"},
		"an oversized answer": {answer: ekstest.Answer{Status: 200, Body: `{"cluster":{"name":"` + strings.Repeat("x", 300<<10) + `"}}`}, says: "the answer is longer than 262144 bytes"},
		"no JSON":             {answer: ekstest.Answer{Status: 200, Body: "<html>"}, says: "not what DescribeCluster gives"},
		"no cluster in it":    {answer: ekstest.Answer{Status: 200, Body: "{}"}, says: "it answered without one"},
	} {
		t.Run(name, func(t *testing.T) {
			server := ekstest.Start(t, test.answer)
			_, err := discover.Describe(t.Context(), api(server), "demo")
			if err == nil || !strings.HasPrefix(err.Error(), "ask EKS about cluster demo: ") || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s", err, test.says)
			}
			if calls := server.Calls(); len(calls) != 1 {
				t.Errorf("%d calls", len(calls))
			}
		})
	}
}

func TestAnUntrustedEndpointIsNotAsked(t *testing.T) {
	server := ekstest.Start(t, ekstest.Answer{Status: 200})
	eks := api(server)
	eks.Client = awscall.NewClient(authority(t), nil, nil)
	if _, err := discover.Describe(t.Context(), eks, "demo"); err == nil || !strings.Contains(err.Error(), "failed to verify certificate") {
		t.Errorf("got %v", err)
	}
	eks.Endpoint = "http://127.0.0.1:1"
	if _, err := discover.Describe(t.Context(), eks, "demo"); err == nil || !strings.Contains(err.Error(), "is not of the form https://host") {
		t.Errorf("got %v", err)
	}
	if calls := server.Calls(); len(calls) != 0 {
		t.Errorf("%d calls", len(calls))
	}
}

func TestASlowEndpointIsGivenUpWithTheCallersReason(t *testing.T) {
	never := make(chan struct{})
	eks := api(ekstest.Start(t, ekstest.Answer{Status: 200, After: never}))
	t.Cleanup(func() { close(never) })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("still nothing"))
	defer cancel()
	if _, err := discover.Describe(ctx, eks, "demo"); err == nil || err.Error() != "ask EKS about cluster demo: still nothing" {
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
