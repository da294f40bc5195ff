package nodes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	certificates "k8s.io/api/certificates/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// ledger is a Ledger in memory, or the error that it has.
type ledger struct {
	issued map[string]string
	err    error
}

func (l ledger) RecordCertificate(_ context.Context, _, fingerprint, instance string, _ time.Duration) error {
	l.issued[fingerprint] = instance
	return l.err
}

func (l ledger) CertificateInstance(_ context.Context, _, fingerprint string) (string, error) {
	if id, ok := l.issued[fingerprint]; ok || l.err != nil {
		return id, l.err
	}
	return "", registry.ErrNotFound
}

func TestACertificateIsOnlyItsOwnInstances(t *testing.T) {
	now := time.Now()
	shows := func(id string) map[string]certificates.ExtraValue {
		return map[string]certificates.ExtraValue{credentialID: {id}}
	}
	books := ledger{issued: map[string]string{"aa": nodeID, "bb": "i-0fedcba9876543210"}}
	tests := []struct {
		name     string
		ledger   ledger
		extra    map[string]certificates.ExtraValue
		filed    time.Time
		launched time.Time
		class    string
		err      string // when neither approved nor denied
	}{
		{"its own", books, shows("X509SHA256=aa"), now, now, "", ""},
		{"that of the name's former instance", books, shows("X509SHA256=bb"), now, now, ClassHolder, ""},
		{"that of the former instance, long ago", books, shows("X509SHA256=bb"), now, now.Add(-25 * time.Hour), ClassHolder, ""},
		{"one in no record, of an instance that is older than any", books, shows("X509SHA256=cc"), now, now.Add(-25 * time.Hour), "", ""},
		{"one in no record, of a younger instance", books, shows("X509SHA256=cc"), now.Add(-2 * time.Minute), now.Add(-23 * time.Hour), ClassHolder, ""},
		{"one in no record that may have been issued just now", books, shows("X509SHA256=cc"), now, now.Add(-23 * time.Hour), "", "in no record yet"},
		{"none that is known, of an older instance", books, nil, now, now.Add(-25 * time.Hour), "", ""},
		{"none that is known, of a younger instance", books, nil, now.Add(-2 * time.Minute), now, ClassHolder, ""},
		{"of an instance whose age is not known", books, nil, now.Add(-2 * time.Minute), time.Time{}, ClassHolder, ""},
		{"while the ledger fails", ledger{err: errors.New("etcd is down")}, shows("X509SHA256=aa"), now, now, "", "etcd is down"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := desk{Approver: Approver{Ledger: tt.ledger}, cluster: kitchen}
			csr := &certificates.CertificateSigningRequest{
				ObjectMeta: meta.ObjectMeta{CreationTimestamp: meta.NewTime(tt.filed)},
				Spec:       certificates.CertificateSigningRequestSpec{Username: nodeUser, Extra: tt.extra},
			}
			err := d.checkBearer(t.Context(), csr, instance(func(i *Instance) { i.Launched = tt.launched }))
			var refusal Refusal
			denied := errors.As(err, &refusal)
			if refusal.Class != tt.class || tt.err != "" && (denied || err == nil || !strings.Contains(err.Error(), tt.err)) || tt.class == "" && tt.err == "" && err != nil {
				t.Errorf("got %v, want class %q, error %q", err, tt.class, tt.err)
			}
		})
	}
}

func TestACertificateInNoRecordMayBeOfBeforeTheLedger(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	for name, tt := range map[string]struct {
		ledgerAge, instanceAge time.Duration
		approved               bool
	}{
		"a young ledger, an instance that is older than today's certificates":  {day, 2 * day, false},
		"a young ledger, an instance that is older than any certificate":       {day, 30 * day, true},
		"a ledger of nearly 30 days, an instance that is as old":               {30*day - time.Minute, 30*day - time.Minute, false},
		"an old ledger, an instance that is older than today's certificates":   {30 * day, 2 * day, true},
		"an old ledger, an instance that is younger than today's certificates": {30 * day, day - time.Minute, false},
	} {
		d := desk{Approver: Approver{Ledger: ledger{}, LedgerSince: now.Add(-tt.ledgerAge)}, cluster: kitchen}
		csr := &certificates.CertificateSigningRequest{ObjectMeta: meta.ObjectMeta{CreationTimestamp: meta.NewTime(now)}}
		got, err := d.bearer(t.Context(), csr, instance(func(i *Instance) { i.Launched = now.Add(-tt.instanceAge) }))
		if err != nil || (got == nodeID) != tt.approved {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestAnIssuedCertificateIsNotedUnderWhoAskedForIt(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	until := func(end time.Time) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	soon, extra := time.Now().Add(time.Hour), map[string]certificates.ExtraValue{credentialID: {fingerprintPrefix + "aa"}}
	tests := []struct {
		name        string
		certificate []byte
		uid         string
		extra       map[string]certificates.ExtraValue
		launched    time.Time
		want        string // empty: it is not noted
	}{
		{"by token", until(soon), nodeID, nil, time.Now(), nodeID},
		{"by a certificate in the ledger", until(soon), "", extra, time.Now(), "i-of-aa"},
		{"by one in no record, of an older instance", until(soon), "", nil, time.Now().Add(-25 * time.Hour), nodeID},
		{"by one in no record, of a younger instance", until(soon), "", nil, time.Now(), ""},
		{"one that has ended", until(time.Now().Add(-time.Hour)), nodeID, nil, time.Now(), ""},
		{"no PEM", []byte("x"), nodeID, nil, time.Now(), ""},
		{"no certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), nodeID, nil, time.Now(), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			books := ledger{issued: map[string]string{"aa": "i-of-aa"}}
			ec2 := &cloud{instances: []types.Instance{inEC2(func(i *types.Instance) { i.LaunchTime = aws.Time(tt.launched) })}}
			d := desk{Approver: Approver{Ledger: books, Instances: NewInstances(ec2, nil)}, cluster: kitchen}
			err := d.note(t.Context(), &certificates.CertificateSigningRequest{
				ObjectMeta: meta.ObjectMeta{CreationTimestamp: meta.Now()},
				Spec:       certificates.CertificateSigningRequestSpec{Username: nodeUser, UID: tt.uid, Extra: tt.extra},
				Status:     certificates.CertificateSigningRequestStatus{Certificate: tt.certificate},
			})
			delete(books.issued, "aa")
			noted := ""
			for _, instance := range books.issued {
				noted = instance
			}
			if err != nil || noted != tt.want {
				t.Errorf("noted under %q, %v; want %q", noted, err, tt.want)
			}
		})
	}
}
