package nodes

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	certificates "k8s.io/api/certificates/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// maxRequest bounds the PEM of a request; a node's is under 1 KiB.
const maxRequest = 16 << 10

// Classes of refusals.
const (
	ClassRequest   = "request"   // it does not decode, or is not signed by its key
	ClassKey       = "key"       // of a kind or size that nodes have not
	ClassRequester = "requester" // who filed it is no node
	ClassSubject   = "subject"   // another's name, or more than a name
	ClassUsage     = "usage"     // usages or extensions that the signer is not for
	ClassHolder    = "holder"    // no running instance has the name, or another one
	ClassInstance  = "instance"  // which is no member of the cluster
	ClassRole      = "role"      // which is not admitted to the cluster
	ClassHosts     = "hosts"     // names or addresses that are not the instance's
)

// Refusal is why a request is denied: in words, and by a class that can be counted.
type Refusal struct{ Class, Reason string }

func (r Refusal) Error() string { return r.Reason }

func refuse(class, format string, args ...any) error {
	return Refusal{class, fmt.Sprintf(format, args...)}
}

// Request is a node's certificate request that is well-formed: by its own words, the
// requester asks for a certificate in its own name and nothing else.
type Request struct {
	NodeName string
	UID      string // the instance ID, when a token made the request; empty by certificate
	DNSNames []string
	IPs      []netip.Addr
}

// ParseRequest reads a request to one of the two kubelet signers and holds it to what
// Kubernetes demands of that signer. Its errors are Refusals.
func ParseRequest(spec certificates.CertificateSigningRequestSpec) (Request, error) {
	if len(spec.Request) > maxRequest {
		return Request{}, refuse(ClassRequest, "the request is longer than %d bytes", maxRequest)
	}
	block, rest := pem.Decode(spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) != 0 {
		return Request{}, refuse(ClassRequest, "the request is not one PEM block of type CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return Request{}, refuse(ClassRequest, "the request does not decode: %v", err)
	}
	// Before the signature: what that costs depends on the key.
	if err := checkKey(csr); err != nil {
		return Request{}, err
	}
	if err := csr.CheckSignature(); err != nil {
		return Request{}, refuse(ClassRequest, "the request is not signed by its own key: %v", err)
	}
	if err := checkSubject(spec, csr); err != nil {
		return Request{}, err
	}
	if err := checkUse(spec, csr); err != nil {
		return Request{}, err
	}
	request := Request{NodeName: strings.TrimPrefix(spec.Username, userPrefix), UID: spec.UID, DNSNames: csr.DNSNames}
	for _, ip := range csr.IPAddresses {
		address, _ := netip.AddrFromSlice(ip)
		request.IPs = append(request.IPs, address.Unmap())
	}
	return request, nil
}

// checkSubject demands that the requester is a node and the subject is the requester, with
// no attribute besides.
func checkSubject(spec certificates.CertificateSigningRequestSpec, csr *x509.CertificateRequest) error {
	name, isNode := strings.CutPrefix(spec.Username, userPrefix)
	switch {
	case !isNode || name == "" || !slices.Contains(spec.Groups, Group):
		return refuse(ClassRequester, "the requester %.100q is not a node", spec.Username)
	case csr.Subject.CommonName != spec.Username:
		return refuse(ClassSubject, "the requester %s asks for the name %.100q, not for its own", spec.Username, csr.Subject.CommonName)
	case !slices.Equal(csr.Subject.Organization, []string{Group}):
		return refuse(ClassSubject, "the organization is %.100q, not %s alone", csr.Subject.Organization, Group)
	case len(csr.Subject.Names) != 2:
		return refuse(ClassSubject, "the subject has more than a common name and an organization")
	}
	return nil
}

// checkUse demands the usages of the signer, and hosts of a serving certificate only.
func checkUse(spec certificates.CertificateSigningRequestSpec, csr *x509.CertificateRequest) error {
	if err := checkExtensions(csr); err != nil {
		return err
	}
	var purpose certificates.KeyUsage
	switch spec.SignerName {
	case certificates.KubeAPIServerClientKubeletSignerName:
		purpose = certificates.UsageClientAuth
		if len(csr.Extensions) > 0 {
			return refuse(ClassHosts, "a client certificate names no hosts")
		}
	case certificates.KubeletServingSignerName:
		purpose = certificates.UsageServerAuth
		if len(csr.DNSNames)+len(csr.IPAddresses) == 0 {
			return refuse(ClassHosts, "a serving certificate needs a DNS name or an address")
		}
	default:
		return refuse(ClassUsage, "the signer %s is not one of kubelet's", spec.SignerName)
	}
	// Key encipherment is for RSA keys; kubelet leaves it out for others.
	var asked []certificates.KeyUsage
	for _, u := range spec.Usages {
		if u != certificates.UsageKeyEncipherment && !slices.Contains(asked, u) {
			asked = append(asked, u)
		}
	}
	slices.Sort(asked)
	want := []certificates.KeyUsage{certificates.UsageDigitalSignature, purpose}
	slices.Sort(want)
	if !slices.Equal(asked, want) {
		return refuse(ClassUsage, "the usages are %.200q, not digital signature and %s", spec.Usages, purpose)
	}
	return nil
}

// Verdict decides on a request, given every running instance of the cluster's VPC that has
// the requester's name, and whether the role of the one that may answer for it is admitted
// to the cluster as a node. Nil approves; an error is a Refusal.
func Verdict(request Request, c registry.Cluster, holders []Instance, admitted bool) error {
	if len(holders) == 0 {
		return refuse(ClassHolder, "no running instance in %s has the private DNS name %s", c.VPCID, request.NodeName)
	}
	if len(holders) > 1 {
		return refuse(ClassHolder, "the name %s is held by more than one running instance: %s and %s", request.NodeName, holders[0].ID, holders[1].ID)
	}
	holder := holders[0]
	if holder.PrivateDNSName != request.NodeName {
		return refuse(ClassHolder, "instance %s has the private DNS name %s, not %s", holder.ID, holder.PrivateDNSName, request.NodeName)
	}
	if request.UID != "" && request.UID != holder.ID {
		return refuse(ClassHolder, "the name %s is held by instance %s, not by the requester %s", request.NodeName, holder.ID, request.UID)
	}
	if err := holder.CheckMember(c); err != nil {
		return Refusal{ClassInstance, err.Error()}
	}
	if !admitted {
		return refuse(ClassRole, "the role %s of instance %s has no access entry of type %s", holder.RoleARN(), holder.ID, registry.TypeEC2Linux)
	}
	return checkHosts(request, holder)
}

// checkHosts holds the names and addresses in a serving certificate to the instance's own.
func checkHosts(request Request, holder Instance) error {
	for _, name := range request.DNSNames {
		if !holder.hasName(name) {
			return refuse(ClassHosts, "the DNS name %.100q is not that of instance %s", name, holder.ID)
		}
	}
	for _, ip := range request.IPs {
		if !holder.hasAddress(ip) {
			return refuse(ClassHosts, "the address %s is not that of instance %s", ip, holder.ID)
		}
	}
	return nil
}
