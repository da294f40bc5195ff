package boot

import (
	"crypto/x509"
	"errors"
	"time"
)

// explained is what err says. Of a certificate that does not hold at this time it says that
// it is far more often the machine's clock that is wrong: an instance starts before its
// clock is set.
func explained(err error, now time.Time) string {
	text := err.Error()
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		text += " (this machine's clock says " + now.UTC().Format(time.RFC3339) + ")"
	}
	return oneLine(text)
}
