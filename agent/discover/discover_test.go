package discover_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestACompleteNodeConfigNamesItsCluster(t *testing.T) {
	ca := authority(t)
	for cidr, dns := range map[string]string{
		"10.100.0.0/16":   "10.100.0.10",
		"172.20.0.0/16":   "172.20.0.10",
		"10.100.3.7/16":   "10.100.0.10", // host bits are dropped
		"10.0.0.240/28":   "10.0.0.250",
		"fd12:3456::/108": "fd12:3456::a",
	} {
		got, err := discover.FromNodeConfig(nodeconfig.Cluster{
			Name: "demo", APIServerEndpoint: "https://host:6443/", CIDR: cidr,
			CertificateAuthority: base64.StdEncoding.EncodeToString(ca),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.DNS().String() != dns || got.Endpoint != "https://host:6443" || got.Name != "demo" || string(got.CA) != string(ca) {
			t.Errorf("%s: got %+v with DNS %s, want %s", cidr, got, got.DNS(), dns)
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	_, err := discover.FromNodeConfig(nodeconfig.Cluster{Name: "demo", CIDR: "10.0.0.0/16"})
	want := "spec.cluster.apiServerEndpoint: missing; spec.cluster.certificateAuthority: missing"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAServiceNetworkMustHoldTheNameServer(t *testing.T) {
	_, err := discover.FromNodeConfig(nodeconfig.Cluster{
		Name: "demo", APIServerEndpoint: "https://host", CIDR: "10.0.0.0/29",
		CertificateAuthority: base64.StdEncoding.EncodeToString(authority(t)),
	})
	want := "spec.cluster.cidr: 10.0.0.0/29 has no tenth address for the cluster's DNS"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAnEndpointOfAWSIsToldFromOthers(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"https://eks.us-west-2.amazonaws.com":                         true,
		"https://eks-fips.us-east-1.api.aws":                          true,
		"https://eks.cn-north-1.amazonaws.com.cn":                     true,
		"https://vpce-0a1b-2c3d.eks.us-west-2.vpce.amazonaws.com:443": true,
		"https://10.0.0.10":                                           false,
		"https://eks.us-west-2.amazonaws.com.example":                 false,
		"https://amazonaws.com":                                       false,
		"%":                                                           false,
	} {
		if got := discover.IsAmazonService(endpoint); got != want {
			t.Errorf("%s: got %v", endpoint, got)
		}
	}
}
