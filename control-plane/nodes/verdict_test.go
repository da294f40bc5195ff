package nodes

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	certificates "k8s.io/api/certificates/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	nodeName = "ip-10-0-1-2.us-west-2.compute.internal"
	nodeUser = "system:node:" + nodeName
	nodeID   = "i-0123456789abcdef0"
	nodeRole = "arn:aws:iam::111122223333:role/ovenbird-node"
)

var kitchen = registry.Cluster{Name: "kitchen", ARN: "arn:aws:eks:us-west-2:111122223333:cluster/kitchen", VPCID: "vpc-1"}

// instance returns a running member of the cluster, changed.
func instance(change ...func(*Instance)) Instance {
	i := Instance{
		ID: nodeID, State: "running", VPCID: "vpc-1", PrivateDNSName: nodeName, PrivateIP: netip.MustParseAddr("10.0.1.2"),
		ProfileARN: "arn:aws:iam::111122223333:instance-profile/ovenbird-node",
		Tags:       map[string]string{"kubernetes.io/cluster/kitchen": "owned"},
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

// template is what a node asks for itself.
func template() *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeUser, Organization: []string{"system:nodes"}}}
}

func encode(t *testing.T, request *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return encodeWith(t, request, key)
}

func encodeWith(t *testing.T, request *x509.CertificateRequest, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// clientSpec and servingSpec are a node's good requests.
func clientSpec(t *testing.T, change ...func(*x509.CertificateRequest)) certificates.CertificateSigningRequestSpec {
	t.Helper()
	request := template()
	for _, c := range change {
		c(request)
	}
	return certificates.CertificateSigningRequestSpec{
		Request: encode(t, request), SignerName: certificates.KubeAPIServerClientKubeletSignerName,
		Usages:   []certificates.KeyUsage{certificates.UsageDigitalSignature, certificates.UsageClientAuth},
		Username: nodeUser, UID: nodeID, Groups: []string{"system:nodes", "system:authenticated"},
	}
}

func servingSpec(t *testing.T, change ...func(*x509.CertificateRequest)) certificates.CertificateSigningRequestSpec {
	t.Helper()
	hosts := func(r *x509.CertificateRequest) {
		r.DNSNames, r.IPAddresses = []string{nodeName, "ip-10-0-1-2"}, []net.IP{net.IPv4(10, 0, 1, 2)}
	}
	spec := clientSpec(t, append([]func(*x509.CertificateRequest){hosts}, change...)...)
	spec.SignerName, spec.UID = certificates.KubeletServingSignerName, ""
	spec.Usages = []certificates.KeyUsage{certificates.UsageDigitalSignature, certificates.UsageKeyEncipherment, certificates.UsageServerAuth}
	return spec
}

func judge(spec certificates.CertificateSigningRequestSpec, admitted bool, holders ...Instance) error {
	request, err := ParseRequest(spec)
	if err != nil {
		return err
	}
	return Verdict(request, kitchen, holders, admitted)
}

func TestANodeGetsCertificatesInItsOwnName(t *testing.T) {
	withEncipherment := clientSpec(t)
	withEncipherment.Usages = append(withEncipherment.Usages, certificates.UsageKeyEncipherment)
	renewal := clientSpec(t)
	renewal.UID = ""
	for name, spec := range map[string]certificates.CertificateSigningRequestSpec{
		"client, by token":               clientSpec(t),
		"client, by certificate":         renewal,
		"client, with key encipherment":  withEncipherment,
		"serving":                        servingSpec(t),
		"serving, for its address alone": servingSpec(t, func(r *x509.CertificateRequest) { r.DNSNames = nil }),
		"serving, for its name alone":    servingSpec(t, func(r *x509.CertificateRequest) { r.IPAddresses = nil }),
		"serving, for its public name and address": servingSpec(t, func(r *x509.CertificateRequest) {
			r.DNSNames, r.IPAddresses = append(r.DNSNames, "ec2-192-0-2-1.example"), append(r.IPAddresses, net.IPv4(192, 0, 2, 1))
		}),
		"serving, for a second interface":    servingSpec(t, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 2, 2)} }),
		"serving, for its IPv6 address":      servingSpec(t, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.ParseIP("2001:db8::2")} }),
		"serving, for its address as mapped": servingSpec(t, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.ParseIP("::ffff:10.0.1.2")} }),
	} {
		if err := judge(spec, true, instance(everyAddress)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// everyAddress gives an instance what it may have besides its private name and address.
func everyAddress(i *Instance) {
	i.PublicDNSName = "ec2-192-0-2-1.example"
	i.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("2001:db8::2")}
}

func TestAnIPv6OnlyInstanceIsANode(t *testing.T) {
	i := instance(func(i *Instance) {
		i.PrivateIP, i.Addresses = netip.Addr{}, []netip.Addr{netip.MustParseAddr("2001:db8::2")}
	})
	if err := judge(clientSpec(t), true, i); err != nil {
		t.Error(err)
	}
}

func TestAKeyMustBeOfAKindThatNodesHave(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0") // or no weak key can be made
	ec := func(curve elliptic.Curve) any {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	withRSA := func(bits int) *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key  any
		want string // "" when it is good
	}{
		"ECDSA P-256":     {ec(elliptic.P256()), ""},
		"ECDSA P-384":     {ec(elliptic.P384()), ""},
		"ECDSA P-224":     {ec(elliptic.P224()), "P-224"},
		"ECDSA P-521":     {ec(elliptic.P521()), "P-521"},
		"RSA 2048":        {withRSA(2048), ""},
		"RSA 1024":        {withRSA(1024), "1024 bits"},
		"RSA 512":         {withRSA(512), "512 bits"},
		"Ed25519":         {ed, "Ed25519"},
		"RSA of 8 KiB":    {nil, "8192 bits"},
		"a tiny exponent": {nil, "the exponent 3"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			switch name {
			case "RSA of 8 KiB": // which would take seconds to make
				err = checkKey(&x509.CertificateRequest{PublicKey: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8191), E: rsaExponent}})
			case "a tiny exponent": // which crypto/rsa makes no more
				err = checkKey(&x509.CertificateRequest{PublicKey: &rsa.PublicKey{N: withRSA(2048).N, E: 3}})
			default:
				spec := clientSpec(t)
				spec.Request = encodeWith(t, template(), tt.key)
				err = judge(spec, true, instance())
			}
			var refusal Refusal
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, &refusal) || refusal.Class != ClassKey || !strings.Contains(refusal.Reason, tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestARequestThatIsNotExactlyANodesIsDenied(t *testing.T) {
	client := func(change ...func(*x509.CertificateRequest)) certificates.CertificateSigningRequestSpec {
		return clientSpec(t, change...)
	}
	serving := func(change func(*x509.CertificateRequest)) certificates.CertificateSigningRequestSpec {
		return servingSpec(t, change)
	}
	edit := func(spec certificates.CertificateSigningRequestSpec, change func(*certificates.CertificateSigningRequestSpec)) certificates.CertificateSigningRequestSpec {
		change(&spec)
		return spec
	}
	type csr = *x509.CertificateRequest
	type spec = *certificates.CertificateSigningRequestSpec
	uid := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, Value: "i-other"}
	tests := []struct {
		name string
		spec certificates.CertificateSigningRequestSpec
		want string
	}{
		{"no PEM", edit(client(), func(s spec) { s.Request = []byte("hello") }), "PEM"},
		{"two PEM blocks", edit(client(), func(s spec) { s.Request = append(s.Request, s.Request...) }), "PEM"},
		{"another PEM type", edit(client(), func(s spec) {
			s.Request = []byte(strings.ReplaceAll(string(s.Request), "CERTIFICATE REQUEST", "CERTIFICATE"))
		}), "PEM"},
		{"a request of 17 KiB", edit(client(), func(s spec) { s.Request = append(s.Request, make([]byte, 17<<10)...) }), "longer"},
		{"a broken request", edit(client(), func(s spec) {
			s.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")})
		}), "does not decode"},
		{"a changed request", edit(client(), func(s spec) {
			block, _ := pem.Decode(s.Request)
			s.Request = pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bytes.Replace(block.Bytes, []byte("10-0-1-2"), []byte("10-0-1-3"), 1)})
		}), "not signed by its own key"},

		{"a requester that is no node", edit(client(), func(s spec) { s.Username = "admin" }), "not a node"},
		{"a requester with an empty node name", edit(client(), func(s spec) { s.Username = "system:node:" }), "not a node"},
		{"a requester outside system:nodes", edit(client(), func(s spec) { s.Groups = []string{"system:authenticated"} }), "not a node"},
		{"another node's name", client(func(r csr) { r.Subject.CommonName = "system:node:ip-10-0-1-3.us-west-2.compute.internal" }), "not for its own"},
		{"an administrator's name", client(func(r csr) { r.Subject.CommonName = "kubernetes-admin" }), "not for its own"},
		{"system:masters", client(func(r csr) { r.Subject.Organization = []string{"system:masters"} }), "organization"},
		{"system:masters besides", client(func(r csr) { r.Subject.Organization = append(r.Subject.Organization, "system:masters") }), "organization"},
		{"no organization", client(func(r csr) { r.Subject.Organization = nil }), "organization"},
		{"a UID in the subject", client(func(r csr) { r.Subject.ExtraNames = []pkix.AttributeTypeAndValue{uid} }), "more than a common name"},
		{"an organizational unit", client(func(r csr) { r.Subject.OrganizationalUnit = []string{"x"} }), "more than a common name"},

		{"another signer", edit(client(), func(s spec) { s.SignerName = certificates.KubeAPIServerClientSignerName }), "not one of kubelet's"},
		{"client, with a DNS name", client(func(r csr) { r.DNSNames = []string{nodeName} }), "names no hosts"},
		{"client, with an address", client(func(r csr) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 1, 2)} }), "names no hosts"},
		{"client, for serving", edit(client(), func(s spec) { s.Usages = append(s.Usages, certificates.UsageServerAuth) }), "usages"},
		{"client, without client auth", edit(client(), func(s spec) { s.Usages = s.Usages[:1] }), "usages"},
		{"client, no usages", edit(client(), func(s spec) { s.Usages = nil }), "usages"},
		{"client, with cert sign", edit(client(), func(s spec) { s.Usages = append(s.Usages, certificates.UsageCertSign) }), "usages"},
		{"serving, without names", serving(func(r csr) { r.DNSNames, r.IPAddresses = nil, nil }), "needs a DNS name"},
		{"serving, for client auth", edit(serving(func(csr) {}), func(s spec) { s.Usages = append(s.Usages, certificates.UsageClientAuth) }), "usages"},
		{"serving, with an e-mail address", serving(func(r csr) { r.EmailAddresses = []string{"a@b"} }), "neither a DNS name nor an address"},
		{"serving, with a URI", serving(func(r csr) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }), "neither a DNS name nor an address"},
		{"serving, with a name of an unknown kind", serving(func(r csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Value: []byte{0x30, 0x0d, 0x82, 0x01, 'a', 0xa0, 0x08, 0x06, 0x01, 0x2a, 0xa0, 0x03, 0x0c, 0x01, 'b'}}}
		}), "neither a DNS name nor an address"},
		{"client, with names of an unknown kind", client(func(r csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Value: []byte{0x30, 0x02, 0x88, 0x00}}}
		}), "neither a DNS name nor an address"},
		{"client, with an empty list of names", client(func(r csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Value: []byte{0x30, 0x00}}}
		}), "names no hosts"},
		{"client, as an authority", client(func(r csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}
		}), "the extension 2.5.29.19"},
		{"serving, as an authority", serving(func(r csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}
		}), "extensions besides names"},
		{"serving, for a public address that it has not", serving(func(r csr) { r.IPAddresses = append(r.IPAddresses, net.IPv4(192, 0, 2, 1)) }), "192.0.2.1 is not that of instance"},
		{"serving, for a public name that it has not", serving(func(r csr) { r.DNSNames = append(r.DNSNames, "ec2-192-0-2-1.example") }), "is not that of instance"},
		{"serving, for an empty name", serving(func(r csr) {
			r.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Value: []byte{0x30, 0x02, 0x82, 0x00}}}
		}), ""},
		{"serving, for another name", serving(func(r csr) { r.DNSNames = append(r.DNSNames, "kubernetes.default") }), `"kubernetes.default" is not that of instance`},
		{"serving, for a wildcard", serving(func(r csr) { r.DNSNames = []string{"*.us-west-2.compute.internal"} }), "is not that of instance"},
		{"serving, for another address", serving(func(r csr) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 10)} }), "10.0.0.10 is not that of instance"},
		{"serving, for loopback", serving(func(r csr) { r.IPAddresses = append(r.IPAddresses, net.IPv6loopback) }), "::1 is not that"},

		{"the token of another instance", edit(client(), func(s spec) { s.UID = "i-0fedcba9876543210" }), "is held by instance " + nodeID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := judge(tt.spec, true, instance()); !errors.As(err, new(Refusal)) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a denial with %q", err, tt.want)
			}
		})
	}
}

func TestOnlyTheClustersOwnInstanceAnswersForAName(t *testing.T) {
	with := func(change func(*Instance)) []Instance { return []Instance{instance(change)} }
	tests := []struct {
		name     string
		holders  []Instance
		admitted bool
		want     string
	}{
		{"no instance", nil, true, "no running instance"},
		{"two instances", []Instance{instance(), instance(func(i *Instance) { i.ID = "i-2" })}, true, "more than one"},
		{"another name", with(func(i *Instance) { i.PrivateDNSName = "ip-10-0-1-3" }), true, "has the private DNS name"},
		{"stopped", with(func(i *Instance) { i.State = "stopping" }), true, "not running"},
		{"another VPC", with(func(i *Instance) { i.VPCID = "vpc-2" }), true, "not in the cluster's"},
		{"no tag", with(func(i *Instance) { i.Tags = nil }), true, "lacks the tag"},
		{"another cluster's tag", with(func(i *Instance) { i.Tags = map[string]string{"kubernetes.io/cluster/pantry": "owned"} }), true, "lacks the tag"},
		{"another cluster in the tag without a slash", with(func(i *Instance) { i.Tags = map[string]string{"ovenbird.dev-cluster": "pantry"} }), true, "lacks the tag"},
		{"a tag of another value", with(func(i *Instance) { i.Tags["kubernetes.io/cluster/kitchen"] = "no" }), true, "lacks the tag"},
		{"no address", with(func(i *Instance) { i.PrivateIP = netip.Addr{} }), true, "no private address"},
		{"a profile of another account", with(func(i *Instance) { i.ProfileARN = "arn:aws:iam::444455556666:instance-profile/ovenbird-node" }), true, "not of the cluster's account"},
		{"a profile of another partition", with(func(i *Instance) { i.ProfileARN = "arn:aws-cn:iam::111122223333:instance-profile/ovenbird-node" }), true, "not of the cluster's account"},
		{"no profile", with(func(i *Instance) { i.ProfileARN = "" }), true, "no instance profile"},
		{"a role that is not admitted", with(func(*Instance) {}), false, "no access entry"},
	}
	for _, tt := range tests {
		if err := judge(clientSpec(t), tt.admitted, tt.holders...); !errors.As(err, new(Refusal)) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want a denial with %q", tt.name, err, tt.want)
		}
	}
}

func TestATagWithoutASlashNamesTheClusterToo(t *testing.T) {
	i := instance(func(i *Instance) { i.Tags = map[string]string{"ovenbird.dev-cluster": "kitchen"} })
	if err := judge(clientSpec(t), true, i); err != nil {
		t.Error(err)
	}
}

func TestARoleAndItsProfileShareAName(t *testing.T) {
	tests := []struct {
		profile, role string
		ok            bool
	}{
		{"arn:aws:iam::111122223333:instance-profile/ovenbird-node", nodeRole, true},
		{"arn:aws:iam::111122223333:instance-profile/a/b/ovenbird-node", "arn:aws:iam::111122223333:role/x/ovenbird-node", true},
		{"arn:aws:iam::111122223333:instance-profile/other", nodeRole, false},
		{"arn:aws:iam::444455556666:instance-profile/ovenbird-node", nodeRole, false},
		{"", nodeRole, false},
		{"", "", false},
		{"nonsense", "", false},
	}
	for _, tt := range tests {
		err := Instance{ProfileARN: tt.profile}.CheckRole(tt.role)
		if (err == nil) != tt.ok {
			t.Errorf("%s as %s: %v", tt.profile, tt.role, err)
		}
	}
}
