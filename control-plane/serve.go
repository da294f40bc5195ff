package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovenbird-dev/ovenbird/control-plane/backup"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

const (
	defaultStateDir   = ".ovenbird/control-plane"
	defaultComponents = "dist/components"
	defaultPodCIDR    = "10.244.0.0/16"
	defaultMetrics    = "127.0.0.1:9418"

	// In the state directory.
	auditFile        = "audit.jsonl"
	auditRefusedFile = "audit-refused.jsonl"
)

// serveFlags are the flags of `ovenbird serve` as they were given.
type serveFlags struct {
	listen, tlsCert, tlsKey   string
	tlsNames                  []string
	insecureHTTP              bool
	region, accountID         string
	stateDir, components      string
	credentials, policy       string
	metricsListen             string
	advertiseAddress, podCIDR string
	publicHost                string
	backup                    backupFlags
	backupInterval            time.Duration
	logs                      logs
}

// settings are checked flags.
type settings struct {
	listen            string
	metricsListen     string
	tlsCert, tlsKey   string   // empty: the service makes its own
	tlsNames          []string // of that
	insecureHTTP      bool
	region, accountID string
	stateDir          string
	catalog           component.Catalog
	keys              sigv4.Keys // nil: callers prove themselves with bearer tokens only
	policy            string     // its file
	address           netip.Addr
	podCIDR           netip.Prefix
	publicHost        string
	backups           *backups // nil: none are taken
	logs              logs
}

// backups are what a service takes by itself.
type backups struct {
	place    backup.Place
	key      *backup.Key
	keep     int
	interval time.Duration
}

func newServeCommand() *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer the EKS API and run the clusters' control planes on this machine",
		Long: `Answer the EKS API and run the clusters' control planes on this machine.

Control planes go on running when the service stops, and the next one takes them over:
under systemd, the unit needs KillMode=process. ` + "`ovenbird stop`" + ` ends everything and keeps
the data; deleting a cluster through the API removes it.

Callers prove who they are with a token that AWS STS vouches for (` + "`ovenbird proxy`" + ` makes
it for the AWS CLI and SDKs), or with a signature by a key in --credentials. --policy says
what each may do. Every call is in audit.jsonl in the state directory, or if nobody is
proven to have made it, in audit-refused.jsonl.

EC2 and STS are found as the AWS SDKs find them: AWS_ENDPOINT_URL, AWS_CA_BUNDLE, the
usual credentials.`,
		Example: "  ovenbird serve --listen 10.0.0.10:443 --tls-name eks.example.internal \\\n" +
			"    --region us-west-2 --account-id 111122223333 --policy policy.json",
		Args: cobra.NoArgs,
	}
	flags.add(cmd.Flags())
	for _, name := range []string{"listen", "region", "account-id"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := flags.check(cmd.Context())
		if err != nil {
			return err
		}
		log, err := cli.Logger()
		if err != nil {
			return err
		}
		return serve(cmd.Context(), settings, log)
	}
	return cmd
}

func (f *serveFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.listen, "listen", "", "host:port of the EKS API")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "certificate of the EKS API, PEM; read again for every connection (default: made and renewed by the service)")
	flags.StringVar(&f.tlsKey, "tls-key", "", "its key, PEM")
	flags.StringSliceVar(&f.tlsNames, "tls-name", nil, "host name or address for the certificate that the service makes, beside the host of --listen")
	flags.BoolVar(&f.insecureHTTP, "insecure-http", false, "answer without TLS, on a loopback address only, and take signatures only")
	flags.StringVar(&f.region, "region", "", "AWS region that the clusters are in")
	flags.StringVar(&f.accountID, "account-id", "", "AWS account that the clusters are in")
	flags.StringVar(&f.stateDir, "state-dir", defaultStateDir, "directory that holds everything the service keeps")
	flags.StringVar(&f.components, "components", defaultComponents, "directory of upstream programs; its Kubernetes versions are those on offer")
	flags.StringVar(&f.credentials, "credentials", "", "file with access keys whose signatures are taken")
	flags.StringVar(&f.policy, "policy", "", "file that says who may call which operation of the EKS API; read again when it changes")
	flags.StringVar(&f.metricsListen, "metrics-listen", defaultMetrics, "host:port of the metrics for Prometheus, unencrypted and open to all who reach it; empty: none")
	flags.StringVar(&f.advertiseAddress, "advertise-address", "", "address that API servers listen on and nodes reach (default: the host of --listen)")
	f.backup.add(flags, "backup-to", "where backups go")
	f.backup.addKeep(flags)
	flags.DurationVar(&f.backupInterval, "backup-interval", 0, "how often to back each cluster up, such as 6h (default: never)")
	f.logs.add(flags)
	flags.StringVar(&f.publicHost, "public-host", "", "host[:port] at which others reach the EKS API; it stays in the OIDC issuers of clusters (default: that of --listen)")
	flags.StringVar(&f.podCIDR, "pod-cidr", defaultPodCIDR, "addresses for pods, of every cluster")
}

var accountPattern = regexp.MustCompile(`^[0-9]{12}$`)

// check turns flags into settings; each error names the flag at fault.
func (f *serveFlags) check(ctx context.Context) (settings, error) {
	s := settings{
		listen: f.listen, metricsListen: f.metricsListen, tlsCert: f.tlsCert, tlsKey: f.tlsKey, tlsNames: f.tlsNames, insecureHTTP: f.insecureHTTP,
		region: f.region, accountID: f.accountID, stateDir: f.stateDir, policy: f.policy,
	}
	var err error
	if s.address, err = parseAdvertised(f.advertiseAddress, f.listen); err != nil {
		return settings{}, err
	}
	if s.publicHost, err = parsePublicHost(f.publicHost, f.listen, s.address); err != nil {
		return settings{}, err
	}
	if !accountPattern.MatchString(f.accountID) {
		return settings{}, cli.Usage(fmt.Errorf("--account-id %q: want 12 digits", f.accountID))
	}
	if s.podCIDR, err = netip.ParsePrefix(f.podCIDR); err != nil || s.podCIDR != s.podCIDR.Masked() {
		return settings{}, cli.Usage(fmt.Errorf("--pod-cidr %q: want a network such as %s", f.podCIDR, defaultPodCIDR))
	}
	if err := f.checkTLS(); err != nil {
		return settings{}, err
	}
	if f.policy == "" {
		return settings{}, cli.Usage(errors.New("--policy: name a file that says who may call the EKS API, such as " + samplePolicy))
	}
	if f.credentials != "" {
		if s.keys, err = iam.ReadKeys(f.credentials); err != nil {
			return settings{}, fmt.Errorf("--credentials: %w", err)
		}
	}
	if s.catalog, err = component.OpenCatalog(f.components); err != nil {
		return settings{}, fmt.Errorf("--components: %w", err)
	}
	if s.logs, err = f.logs.checked(); err != nil {
		return settings{}, err
	}
	s.backups, err = f.checkBackups(ctx)
	return s, err
}

// shortestInterval keeps backups from being all that a cluster does.
const shortestInterval = time.Minute

func (f *serveFlags) checkBackups(ctx context.Context) (*backups, error) {
	if f.backupInterval == 0 && f.backup.where == "" {
		return nil, nil
	}
	if f.backupInterval == 0 || f.backup.where == "" {
		return nil, cli.Usage(errors.New("--backup-interval and --backup-to go together: how often, and where to"))
	}
	if f.backupInterval < shortestInterval {
		return nil, cli.Usage(fmt.Errorf("--backup-interval %s: want at least %s", f.backupInterval, shortestInterval))
	}
	place, key, err := f.backup.open(ctx, f.region)
	if err != nil {
		return nil, err
	}
	return &backups{place, key, f.backup.keep, f.backupInterval}, nil
}

// samplePolicy is what somebody without a policy starts from.
const samplePolicy = `{"statements": [{"principals": ["arn:aws:iam::111122223333:role/operators"], "actions": ["eks:*"], "resources": ["*"]}]}`

// checkTLS refuses everything between TLS and a plain port that only this machine reaches.
func (f *serveFlags) checkTLS() error {
	given := f.tlsCert != "" || f.tlsKey != ""
	switch {
	case f.insecureHTTP && (given || len(f.tlsNames) > 0):
		return cli.Usage(errors.New("--insecure-http: not together with --tls-cert, --tls-key or --tls-name"))
	case f.insecureHTTP && !isLoopback(f.listen):
		return cli.Usage(fmt.Errorf("--insecure-http: --listen %s is not a loopback address: whoever is on the network could read and change what is sent", f.listen))
	case f.insecureHTTP && f.credentials == "":
		return cli.Usage(errors.New("--insecure-http: bearer tokens need TLS, so nobody could call: give --credentials too"))
	case given && len(f.tlsNames) > 0:
		return cli.Usage(errors.New("--tls-name: is for the certificate that the service makes, not together with --tls-cert"))
	case given:
		if _, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey); err != nil {
			return fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
	}
	return nil
}

func isLoopback(listen string) bool {
	address, err := netip.ParseAddrPort(listen)
	return err == nil && address.Addr().Unmap().IsLoopback()
}

// parseAdvertised reads the address of the API servers, by default the host of --listen.
func parseAdvertised(advertise, listen string) (netip.Addr, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return netip.Addr{}, cli.Usage(fmt.Errorf("--listen %q: want host:port", listen))
	}
	if advertise == "" {
		advertise = host
	}
	address, err := netip.ParseAddr(advertise)
	if err != nil || address.IsUnspecified() {
		return netip.Addr{}, cli.Usage(fmt.Errorf("--advertise-address %q: want the IP address at which nodes reach this machine", advertise))
	}
	return address, nil
}

// parsePublicHost reads what comes after https:// in the URL of the service, by default
// what --listen says. The usual port is left out.
func parsePublicHost(public, listen string, advertised netip.Addr) (string, error) {
	if public == "" {
		public = listen
		if host, port, err := net.SplitHostPort(listen); err == nil {
			if address, err := netip.ParseAddr(host); host == "" || (err == nil && address.IsUnspecified()) {
				public = net.JoinHostPort(advertised.String(), port)
			}
		}
	}
	public = strings.TrimSuffix(public, ":443")
	if parsed, err := url.Parse("https://" + public); err != nil || parsed.Host != public || parsed.Hostname() == "" {
		return "", cli.Usage(fmt.Errorf("--public-host %q: want host or host:port", public))
	}
	return public, nil
}

// versions are the Kubernetes minors on offer, oldest first.
func (s settings) versions() ([]string, error) {
	minors, err := s.catalog.Minors()
	slices.Reverse(minors)
	return minors, err
}

// patch is what a new cluster of a minor version gets.
func (s settings) patch(minor string) (string, error) {
	release, err := s.catalog.Newest(minor)
	return release.Kubernetes, err
}

// makeStateDir makes a directory that keeps everybody else out, since it will hold keys,
// and returns its one true name: processes are found again by it.
func makeStateDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return trueName(dir)
}

func trueName(dir string) (string, error) {
	name, err := filepath.EvalSymlinks(dir)
	if err == nil {
		name, err = filepath.Abs(name)
	}
	if err != nil {
		return "", fmt.Errorf("find state directory: %w", err)
	}
	return name, nil
}

func listen(ctx context.Context, what, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", what, err)
	}
	return listener, nil
}
