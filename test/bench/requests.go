package main

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
	"time"

	"golang.org/x/sync/errgroup"
	certificates "k8s.io/api/certificates/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
)

// filing is a certificate request and the client of the node that files it.
type filing struct {
	client  kubernetes.Interface
	request *certificates.CertificateSigningRequest
}

// measureRequests files the requests of a thousand nodes at once, among them forgeries, and
// measures from the first of them until all are decided.
func (k *kitchen) measureRequests(ctx context.Context) ([]Entry, error) {
	admin, err := kubernetes.NewForConfig(k.admin)
	if err != nil {
		return nil, err
	}
	filings, err := k.filings()
	if err != nil {
		return nil, err
	}
	attending, stop := context.WithCancel(ctx)
	attendants := k.attend(attending, admin)
	defer func() {
		stop()
		_ = attendants.Wait()
	}()
	var took []float64
	var refused, signed float64
	for run := range requestRuns {
		began := time.Now()
		if err := fileAll(ctx, filings); err != nil {
			return nil, err
		}
		r, s, err := decided(ctx, admin, len(filings))
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds())
		refused, signed = refused+r, signed+s
		progress("run %d: %d certificate requests decided in %.2f s, %.0f of nodes refused, %.0f forgeries approved", run+1, len(filings), took[run], r, s)
		if err := admin.CertificatesV1().CertificateSigningRequests().DeleteCollection(ctx, meta.DeleteOptions{}, meta.ListOptions{}); err != nil {
			return nil, err
		}
	}
	if refused+signed > 0 {
		return nil, fmt.Errorf("%.0f good requests were refused and %.0f forged ones approved", refused, signed)
	}
	return []Entry{
		{Name: fmt.Sprintf("%d nodes' certificate requests decided, %d of them forged", len(filings), badNodes), Value: median(took), Unit: "s", Runs: requestRuns},
		{Name: "good certificate requests refused", Value: refused, Unit: "requests", Runs: requestRuns},
		{Name: "forged certificate requests approved", Value: signed, Unit: "requests", Runs: requestRuns},
	}, nil
}

func fileAll(ctx context.Context, filings []filing) error {
	group, ctx := errgroup.WithContext(ctx)
	for caller := range callers {
		group.Go(func() error {
			for i := caller; i < len(filings); i += callers {
				f := filings[i]
				if _, err := f.client.CertificatesV1().CertificateSigningRequests().Create(ctx, f.request, meta.CreateOptions{}); err != nil {
					return fmt.Errorf("file the request %s: %w", f.request.Name, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// decided waits until every request has an answer, and counts the wrong ones.
func decided(ctx context.Context, admin kubernetes.Interface, want int) (refused, approved float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := admin.CertificatesV1().CertificateSigningRequests().List(ctx, meta.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return 0, 0, err
		}
		answers := 0
		refused, approved = 0, 0
		for _, csr := range all.Items {
			for _, condition := range csr.Status.Conditions {
				answers++
				forged := csr.Labels[forgedLabel] != ""
				switch {
				case condition.Type == certificates.CertificateDenied && !forged:
					refused++
				case condition.Type == certificates.CertificateApproved && forged:
					approved++
				}
			}
		}
		if answers == want {
			return refused, approved, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("%d of %d requests are decided: %w", answers, want, context.Cause(ctx))
		}
	}
}

const forgedLabel = "forged"

// filings are the requests of all nodes. The forgeries are spread among them.
func (k *kitchen) filings() ([]filing, error) {
	order := make([]filing, 0, goodNodes+badNodes)
	next := goodNodes
	for n := range goodNodes {
		f, err := k.filing(n, func(*x509.CertificateRequest, *certificates.CertificateSigningRequestSpec) {})
		if err != nil {
			return nil, err
		}
		order = append(order, f)
		if n%(goodNodes/badNodes) != 0 || next == goodNodes+badNodes {
			continue
		}
		if f, err = k.filing(next, forge(next)); err != nil {
			return nil, err
		}
		f.request.Labels = map[string]string{forgedLabel: "yes"}
		order = append(order, f)
		next++
	}
	if len(order) != goodNodes+badNodes {
		return nil, errors.New("the forgeries do not spread among the requests")
	}
	return order, nil
}

// forge returns what is wrong with the request of a bad node: nothing where its instance is
// no member, and one of these where it is.
func forge(n int) func(*x509.CertificateRequest, *certificates.CertificateSigningRequestSpec) {
	return func(request *x509.CertificateRequest, spec *certificates.CertificateSigningRequestSpec) {
		switch {
		case n%4 < 2:
		case n%8 < 4:
			request.Subject.Organization = append(request.Subject.Organization, "system:masters")
		case n%16 < 8:
			request.DNSNames = []string{"kubernetes.default.svc"}
		default:
			spec.SignerName, spec.Usages[1] = certificates.KubeletServingSignerName, certificates.UsageServerAuth
			request.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
		}
	}
}

// filing makes a node's request, and a client that acts in its name: what the token webhook
// would say of it is said by impersonation.
func (k *kitchen) filing(n int, change func(*x509.CertificateRequest, *certificates.CertificateSigningRequestSpec)) (filing, error) {
	user := "system:node:" + memberName(n)
	config := rest.CopyConfig(k.admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, UID: memberID(n), Groups: []string{nodes.Group, "system:authenticated"}}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return filing{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return filing{}, err
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: user, Organization: []string{nodes.Group}}}
	spec := certificates.CertificateSigningRequestSpec{
		SignerName: certificates.KubeAPIServerClientKubeletSignerName,
		Usages:     []certificates.KeyUsage{certificates.UsageDigitalSignature, certificates.UsageClientAuth},
	}
	change(template, &spec)
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return filing{}, err
	}
	spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return filing{client, &certificates.CertificateSigningRequest{ObjectMeta: meta.ObjectMeta{Name: fmt.Sprintf("node-%d", n)}, Spec: spec}}, nil
}
