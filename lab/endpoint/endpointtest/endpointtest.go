// Package endpointtest runs the lab's AWS services in a test's own process: on loopback,
// over TLS, with state of the test's own. It needs no root and starts no instances. Calls
// can be made to go wrong, and are counted.
package endpointtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/recorded"
	"github.com/ovenbird-dev/ovenbird/lab/ebs"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/logs"
	"github.com/ovenbird-dev/ovenbird/lab/s3"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Endpoint is a running one. Its methods are safe for concurrent use.
type Endpoint struct {
	URL     string
	Account string
	Regions []string // the first is the configuration's, unless another is asked for
	// Catalog is what the calls work on, for a test to look behind them.
	Catalog *catalog.Catalog
	// Stacks run until the test ends.
	Stacks *cloudformation.Stacks
	// Faults are empty at first; Add and Clear them at any time.
	Faults *fault.Set

	roots *x509.CertPool
	ca    string

	mu   sync.Mutex
	puts map[string]map[int]int
}

// access keys of the administrator and of an instance's role.
const (
	adminKey, adminSecret          = "AKIATESTADMIN2345678", "the-administrators-secret"
	roleKey, roleSecret, roleToken = "ASIATESTROLE23456789", "the-roles-secret", "the-roles-token"
)

// Option changes how an endpoint is run.
type Option func(*settings)

type settings struct {
	dir    string
	delays catalog.Delays
	now    func() time.Time
	logger *zap.Logger
}

// In keeps the state in dir, so that another endpoint can go on with it.
func In(dir string) Option { return func(s *settings) { s.dir = dir } }

// After sets how long a new snapshot is not found, and how long snapshots and images are
// pending. Both are short unless set, and never zero on AWS.
func After(appear, settle time.Duration) Option {
	return func(s *settings) { s.delays = catalog.Delays{Appear: appear, Settle: settle} }
}

// Clock runs ahead of the real time as far as a test moves it: five minutes at most, or the
// services take no signature any more.
type Clock struct{ ahead atomic.Int64 }

// Now is the time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves it.
func (c *Clock) Advance(by time.Duration) { c.ahead.Add(int64(by)) }

// By sets the services' clock.
func By(c *Clock) Option { return func(s *settings) { s.now = c.Now } }

// Quiet writes no log. The log of each call costs more than a block does.
func Quiet() Option { return func(s *settings) { s.logger = zap.NewNop() } }

// Start runs an endpoint until the test ends.
func Start(t testing.TB, options ...Option) *Endpoint {
	t.Helper()
	s := settings{now: time.Now, delays: catalog.Delays{Appear: 20 * time.Millisecond, Settle: 50 * time.Millisecond}}
	for _, o := range options {
		o(&s)
	}
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	if s.logger == nil {
		s.logger = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))
	}
	plan := vpc.Default()
	networks, err := vpc.Open(plan, filepath.Join(s.dir, "networks.json"))
	if err != nil {
		t.Fatal(err)
	}
	plan.Networks = networks
	c, err := catalog.Open(catalog.Options{
		Dir: s.dir, Account: plan.Account, Regions: plan.Regions(), Delays: s.delays, Now: s.now, Logger: s.logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	store := &ssm.Store{Path: filepath.Join(s.dir, "parameters.json"), Catalog: c, Now: s.now}
	if err := store.Open(); err != nil {
		t.Fatal(err)
	}
	principals := &iam.Store{Path: filepath.Join(s.dir, "iam.json"), Plan: plan, Profile: "node", Now: s.now}
	kept := &recorded.Store{Path: filepath.Join(s.dir, "recorded.json"), Plan: plan}
	buckets := &s3.Store{Dir: filepath.Join(s.dir, "buckets"), Region: plan.Region, Now: s.now}
	shipped := &logs.Store{Dir: filepath.Join(s.dir, "logs"), Now: s.now}
	stacks := &cloudformation.Stacks{Path: filepath.Join(s.dir, "cloudformation.json"), Plan: plan, Now: s.now, Logger: s.logger}
	for _, open := range []func() error{principals.Open, kept.Open, buckets.Open, shipped.Open, stacks.Open} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	e := &Endpoint{Stacks: stacks, Account: plan.Account, Regions: plan.Regions(), Catalog: c, Faults: &fault.Set{}, puts: map[string]map[int]int{}}
	server := httptest.NewTLSServer(endpoint.New(endpoint.Options{
		Plan: plan, Fleet: noFleet{}, Catalog: c, Store: store, IAM: principals, Recorded: kept, Buckets: buckets, Logs: shipped, Stacks: stacks, Now: s.now, Logger: s.logger, Faults: e.Faults, Seen: e.see,
		Keys: sdktest.Keys{
			adminKey: {AccessKeyID: adminKey, SecretAccessKey: adminSecret, ARN: plan.IAM("user/admin")},
			roleKey:  {AccessKeyID: roleKey, SecretAccessKey: roleSecret, SessionToken: roleToken, ARN: plan.AssumedRole("node", "i-0123456789abcdef0")},
		},
	}))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { stacks.Run(ctx) })
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		stop()
		running.Wait()
		c.Close()
	})
	e.URL, e.roots, e.ca = server.URL, x509.NewCertPool(), filepath.Join(s.dir, "ca.pem")
	e.roots.AddCert(server.Certificate())
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(e.ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return e
}

// Config reaches the endpoint as the account's administrator. Its HTTP client is like that
// of the SDK's default configuration, with the endpoint's authority.
func (e *Endpoint) Config() aws.Config {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.Proxy = nil
		t.TLSClientConfig = &tls.Config{RootCAs: e.roots, MinVersion: tls.VersionTLS12}
	})
	return aws.Config{
		Region: e.Regions[0], BaseEndpoint: aws.String(e.URL), HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider(adminKey, adminSecret, ""),
	}
}

// In is Config for another region.
func (e *Endpoint) In(region string) aws.Config {
	c := e.Config()
	c.Region = region
	return c
}

// AsRole is Config for an instance's role, which may publish nothing.
func (e *Endpoint) AsRole() aws.Config {
	c := e.Config()
	c.Credentials = credentials.NewStaticCredentialsProvider(roleKey, roleSecret, roleToken)
	return c
}

// Env is the environment in which another process reaches the endpoint as Config does.
func (e *Endpoint) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + e.URL, "AWS_CA_BUNDLE=" + e.ca, "AWS_REGION=" + e.Regions[0], "AWS_DEFAULT_REGION=" + e.Regions[0],
		"AWS_ACCESS_KEY_ID=" + adminKey, "AWS_SECRET_ACCESS_KEY=" + adminSecret, "AWS_SESSION_TOKEN=", "NO_PROXY=127.0.0.1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Calls is how often an action was called, with success or without.
func (e *Endpoint) Calls(action string) int { return e.Faults.Calls()[action] }

// Puts is how often each block of a snapshot was sent, with success or without.
func (e *Endpoint) Puts(snapshot string) map[int]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	puts := map[int]int{}
	for index, n := range e.puts[snapshot] {
		puts[index] = n
	}
	return puts
}

func (e *Endpoint) see(call wire.Call) {
	snapshot, index, ok := ebs.Block(call)
	if !ok || call.Action != "PutSnapshotBlock" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.puts[snapshot] == nil {
		e.puts[snapshot] = map[int]int{}
	}
	e.puts[snapshot][index]++
}

// Fail puts a fault to work and ends the test if it makes no sense.
func (e *Endpoint) Fail(t testing.TB, f fault.Fault) {
	t.Helper()
	if err := e.Faults.Add(f); err != nil {
		t.Fatal(err)
	}
}

// Left names the snapshots and images that exist, in all regions.
func (e *Endpoint) Left() []string {
	var ids []string
	for _, region := range e.Regions {
		for _, s := range e.Catalog.Snapshots(region) {
			ids = append(ids, s.ID)
		}
		for _, i := range e.Catalog.Images(region) {
			ids = append(ids, i.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// noFleet is a region where nothing can be started.
type noFleet struct{}

func (noFleet) Launch(fleet.Order) ([]fleet.Instance, error) {
	return nil, errors.New("this endpoint starts no instances")
}
func (noFleet) Stop(ids []string, _ bool) ([]fleet.Change, error) {
	return nil, &fleet.NotFoundError{IDs: ids}
}
func (noFleet) Start(ids []string) ([]fleet.Change, error) {
	return nil, &fleet.NotFoundError{IDs: ids}
}
func (noFleet) Attach(id string, _ fleet.Volume) (fleet.Instance, error) {
	return fleet.Instance{}, &fleet.NotFoundError{IDs: []string{id}}
}
func (noFleet) Detach(id, _ string) error { return &fleet.NotFoundError{IDs: []string{id}} }
func (noFleet) RemoveVolume(string) error { return nil }
func (noFleet) VolumeDisk(string) string  { return "" }
func (noFleet) AttachInterface(id string, _ fleet.Interface) (fleet.Interface, error) {
	return fleet.Interface{}, &fleet.NotFoundError{IDs: []string{id}}
}
func (noFleet) DetachInterface(id, _ string) error { return &fleet.NotFoundError{IDs: []string{id}} }
func (noFleet) Regroup(id, _ string, _ []fleet.Group) error {
	return &fleet.NotFoundError{IDs: []string{id}}
}
func (noFleet) Tag(id string, _ map[string]string, _ map[string]*string) error {
	return &fleet.NotFoundError{IDs: []string{id}}
}
func (noFleet) Reboot(ids []string) error   { return &fleet.NotFoundError{IDs: ids} }
func (noFleet) Instances() []fleet.Instance { return nil }
func (noFleet) Terminate(ids []string, _ bool) ([]fleet.Change, error) {
	return nil, &fleet.NotFoundError{IDs: ids}
}
