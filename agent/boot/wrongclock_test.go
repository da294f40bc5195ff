package boot

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestOfACertificateThatDoesNotHoldNowTheClockIsTold(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	const told = "this machine's clock says 2026-03-04T05:06:07Z"
	over := &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time is before"}}
	if got := explained(fmt.Errorf("ask: %w", over), now); !strings.Contains(got, told) {
		t.Errorf("got %q", got)
	}
	for _, other := range []error{errors.New("no"), x509.UnknownAuthorityError{}, x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}} {
		if got := explained(other, now); strings.Contains(got, "clock") {
			t.Errorf("got %q", got)
		}
	}
}
