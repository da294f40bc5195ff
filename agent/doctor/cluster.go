package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

func checkUserData(ctx context.Context, p *patient) (string, error) {
	data, err := p.Metadata.UserData(ctx)
	if err != nil {
		return "", fail(advice.Metadata, "%w", err)
	}
	if named, err := nodeconfig.Parse(data); err == nil && named.Host == nil && !discover.SaysWhere(named.Spec.Cluster) {
		p.userData = &named
		return "", skipped("user-data leaves it to EKS to say where the cluster is: `ovenbird-agent status` tells what it said")
	}
	userData, cluster, err := boot.ReadUserData(data)
	if err != nil {
		return "", fail(advice.UserData, "user-data: %w", err)
	}
	p.userData = &userData
	if userData.Host != nil {
		return "", skipped("user-data makes the instance a host of control planes, not a node")
	}
	p.cluster = &cluster
	return fmt.Sprintf("a NodeConfig for cluster %s at %s", cluster.Name, cluster.Endpoint), nil
}

func checkMetadata(ctx context.Context, p *patient) (string, error) {
	instance, err := p.Metadata.Instance(ctx)
	if err != nil {
		return "", fail(advice.Metadata, "%w", err)
	}
	p.instance = &instance
	return fmt.Sprintf("%s, a %s in %s, named %s", instance.ID, instance.Type, instance.AvailabilityZone, instance.PrivateDNSName), nil
}

// nextHop returns where connections to the API endpoint go, and whether that is a proxy.
func (p *patient) nextHop() (address *url.URL, proxied bool, err error) {
	endpoint, err := url.Parse(p.cluster.Endpoint)
	if err != nil {
		return nil, false, err
	}
	proxy, err := p.proxy()(&http.Request{URL: endpoint})
	if err != nil {
		return nil, false, fail("Mend the proxy in the NodeConfig's spec.instance.environment.default.", "the proxy is not a URL") // which may hold a password
	}
	if proxy != nil {
		return proxy, true, nil
	}
	return endpoint, false, nil
}

func checkName(ctx context.Context, p *patient) (string, error) {
	if p.cluster == nil {
		return "", errNoCluster
	}
	hop, _, err := p.nextHop()
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddr(hop.Hostname()); err == nil {
		return "", skipped(hop.Hostname() + " is an address")
	}
	addresses, err := p.Network.LookupHost(ctx, hop.Hostname())
	if err != nil {
		return "", fail(advice.Name(hop.Hostname()), "%w", err)
	}
	return hop.Hostname() + " is " + strings.Join(addresses, ", "), nil
}

func checkConnection(ctx context.Context, p *patient) (string, error) {
	if p.cluster == nil {
		return "", errNoCluster
	}
	hop, proxied, err := p.nextHop()
	if err != nil {
		return "", err
	}
	address := net.JoinHostPort(hop.Hostname(), cmp.Or(hop.Port(), map[string]string{"http": "80"}[hop.Scheme], "443"))
	what := "the API endpoint"
	if proxied {
		what = "the proxy to the API endpoint"
	}
	conn, err := p.Network.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fail(advice.Connection(what), "connect to %s: %w", what, err)
	}
	p.reached = true
	return fmt.Sprintf("%s at %s takes connections", what, address), conn.Close()
}

// ask makes a request that shows nobody who it is to the API server.
func (p *patient) ask(ctx context.Context, config *tls.Config) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.cluster.Endpoint+"/readyz", nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: p.proxy(), DialContext: p.Network.DialContext, TLSClientConfig: config, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	return response, response.Body.Close()
}

func checkTLS(ctx context.Context, p *patient) (string, error) {
	switch {
	case p.cluster == nil:
		return "", errNoCluster
	case !p.reached:
		return "", errNotReached
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(p.cluster.CA)
	response, err := p.ask(ctx, &tls.Config{RootCAs: authorities, Time: p.Now, MinVersion: tls.VersionTLS12}) //nolint:bodyclose // ask has
	if err != nil {
		return "", fail(advice.TLS(err), "%w", err)
	}
	if response.StatusCode >= http.StatusInternalServerError {
		return "", fail(advice.NotReady, "the API server answers with %s", response.Status)
	}
	certificate := response.TLS.PeerCertificates[0]
	return fmt.Sprintf("the cluster's authority signed for it, until %s; it answers with %s", day(certificate.NotAfter), response.Status), nil
}

func checkCertificate(_ context.Context, p *patient) (string, error) {
	switch {
	case p.cluster == nil:
		return "", errNoCluster
	case p.instance == nil:
		return "", errNoInstance
	case p.cluster.IsAmazonEKS():
		return "", skipped("nodes of Amazon EKS have none: they show tokens")
	}
	const seeStatus = "`ovenbird-agent status` says why the node has no certificate that it can use. Then `systemctl restart ovenbird-agent` asks for one."
	name := boot.Facts{Instance: *p.instance}.NodeName()
	pair, err := identity.Store{Root: p.Root, NodeName: name, Cluster: *p.cluster, Now: p.Now}.Current()
	if errors.Is(err, fs.ErrNotExist) {
		return "", fail(seeStatus, "there is none yet")
	}
	if err != nil {
		return "", fail(seeStatus, "%w", err)
	}
	block, _ := pem.Decode(pair.Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fail(seeStatus, "%w", err)
	}
	if certificate.NotBefore.After(p.Now()) {
		return "", fail("This machine's clock is wrong: see the row clock.", "the certificate begins only on %s", day(certificate.NotBefore))
	}
	return fmt.Sprintf("of %s, until %s (%s left)", certificate.Subject.CommonName, day(certificate.NotAfter), certificate.NotAfter.Sub(p.Now()).Round(time.Minute)), nil
}

// tolerance is how far the clock may be off. A clock that is kept is off by milliseconds;
// the Date header counts whole seconds; AWS refuses signatures after five minutes.
const tolerance = 30 * time.Second

func checkClock(ctx context.Context, p *patient) (string, error) {
	switch {
	case p.cluster == nil:
		return "", errNoCluster
	case !p.reached:
		return "", errNotReached
	}
	// Whose certificate it is does not matter here, and cannot be told while the clock is
	// wrong: nothing is sent, and only the date is read.
	response, err := p.ask(ctx, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:bodyclose,gosec // ask has; see above
	if err != nil {
		return "", skipped("the endpoint does not say what time it is: see TLS")
	}
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return "", skipped("the endpoint does not say what time it is")
	}
	off := p.Now().Sub(theirs).Round(time.Second)
	if off.Abs() > tolerance {
		return "", fail(advice.Clock, "%s off the API endpoint's; %s is tolerated", off, tolerance)
	}
	return fmt.Sprintf("less than %s off the API endpoint's", off.Abs()+time.Second), nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
