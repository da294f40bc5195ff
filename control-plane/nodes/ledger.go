package nodes

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	certificates "k8s.io/api/certificates/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Ledger remembers to which instance a client certificate was issued. A certificate names
// the node only, and a name passes on to another instance when the first is terminated: who
// has the first one's key must not be the second one. *registry.Registry is one.
type Ledger interface {
	RecordCertificate(ctx context.Context, cluster, fingerprint, instanceID string, lifetime time.Duration) error
	CertificateInstance(ctx context.Context, cluster, fingerprint string) (instanceID string, err error)
}

const (
	// credentialID is where kube-apiserver says by which certificate a requester came, and
	// how that begins.
	credentialID      = "authentication.kubernetes.io/credential-id" //nolint:gosec // the name of a field
	fingerprintPrefix = "X509SHA256="
	// noteGrace is how long it may take until what was issued is in the ledger.
	noteGrace = time.Minute
	// formerLifetime is how long certificates held before there was a ledger.
	formerLifetime = 720 * time.Hour
)

// issued tells whether a request has led to a client certificate of a node.
func issued(csr *certificates.CertificateSigningRequest) bool {
	return csr.Spec.SignerName == certificates.KubeAPIServerClientKubeletSignerName &&
		len(csr.Status.Certificate) > 0 && hasCondition(csr, certificates.CertificateApproved)
}

// note puts an issued certificate into the ledger, under the instance that asked for it.
func (d desk) note(ctx context.Context, csr *certificates.CertificateSigningRequest) error {
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	block, _ := pem.Decode(csr.Status.Certificate)
	if block == nil {
		return nil // no certificate that anybody can show
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil //nolint:nilerr // likewise
	}
	left := time.Until(certificate.NotAfter)
	if left <= 0 {
		return nil
	}
	sum := sha256.Sum256(block.Bytes)
	fingerprint := hex.EncodeToString(sum[:])
	if _, err := d.Ledger.CertificateInstance(ctx, d.cluster.Name, fingerprint); !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	var holder Instance
	if csr.Spec.UID == "" {
		holders, err := d.Instances.ByName(ctx, d.cluster.VPCID, strings.TrimPrefix(csr.Spec.Username, userPrefix))
		if err != nil {
			return err
		}
		if len(holders) == 1 {
			holder = holders[0]
		}
	}
	instance, err := d.bearer(ctx, csr, holder)
	if err != nil || instance == "" {
		return err
	}
	return d.Ledger.RecordCertificate(ctx, d.cluster.Name, fingerprint, instance, left)
}

// bearer returns the instance that made a request: by a token, as the webhook says, or by a
// certificate, as the ledger does. One that is in no record must be that of the name's holder
// when every certificate of before the holder was started has ended; otherwise the answer is
// empty.
func (d desk) bearer(ctx context.Context, csr *certificates.CertificateSigningRequest, holder Instance) (string, error) {
	if csr.Spec.UID != "" {
		return csr.Spec.UID, nil
	}
	instance, err := d.Ledger.CertificateInstance(ctx, d.cluster.Name, shown(csr.Spec))
	if err == nil || !errors.Is(err, registry.ErrNotFound) {
		return instance, err
	}
	if !holder.Launched.IsZero() && csr.CreationTimestamp.Sub(holder.Launched) >= d.longestLifetime(csr.CreationTimestamp.Time) {
		return holder.ID, nil
	}
	return "", nil
}

// longestLifetime returns how long a certificate that is good at a time, and in no record,
// may have been so.
func (d desk) longestLifetime(at time.Time) time.Duration {
	if at.Sub(d.LedgerSince) < formerLifetime {
		return formerLifetime
	}
	return pki.NodeLifetime
}

// shown returns the fingerprint of the certificate by which the requester came.
func shown(spec certificates.CertificateSigningRequestSpec) string {
	for _, id := range spec.Extra[credentialID] {
		if fingerprint, ok := strings.CutPrefix(id, fingerprintPrefix); ok {
			return fingerprint
		}
	}
	return ""
}

// checkBearer demands that who made a request is the instance that holds its name now.
func (d desk) checkBearer(ctx context.Context, csr *certificates.CertificateSigningRequest, holder Instance) error {
	instance, err := d.bearer(ctx, csr, holder)
	switch {
	case err != nil || instance == holder.ID:
		return err
	case instance != "":
		return refuse(ClassHolder, "the requester's certificate was issued to instance %s, and its name is that of instance %s now", instance, holder.ID)
	case time.Since(csr.CreationTimestamp.Time) < noteGrace:
		return fmt.Errorf("the certificate of the requester %s is in no record yet", csr.Spec.Username)
	}
	return refuse(ClassHolder, "the requester's certificate is in no record, and may be of before instance %s was started at %s", holder.ID, holder.Launched.Format(time.RFC3339))
}
