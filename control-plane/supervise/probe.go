package supervise

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// ask sends one probe to url. Keys are read each time: they may have been renewed, and a
// connection kept open would still show the old certificate.
func ask(ctx context.Context, probe component.Probe, url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	roots, err := pki.ReadRoots(probe.Authority)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	certificate, err := pki.ReadPair(probe.Certificate)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{*certificate}},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make probe: %w", err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("probe %s: %w", url, err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("probe %s: %s%s", url, answer.Status, failedChecks(string(body)))
	}
	return nil
}

// failedChecks picks what failed out of a Kubernetes health answer, one "[-]name failed" a line.
func failedChecks(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ := strings.Cut(rest, " ")
			failed = append(failed, strings.TrimSpace(name))
		}
	}
	if len(failed) == 0 {
		return ""
	}
	return ": " + strings.Join(failed, ", ")
}
