// Package labtest runs the lab in a test's own process: every service that works on instances,
// on loopback and over TLS, before a fleet whose instances are played in memory. It needs no
// root and starts no virtual machine. For services without instances, whose calls are to go
// wrong, there is endpointtest.
package labtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/recorded"
	"github.com/ovenbird-dev/ovenbird/lab/dnsmasq"
	"github.com/ovenbird-dev/ovenbird/lab/ec2"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint"
	"github.com/ovenbird-dev/ovenbird/lab/fakeinstance"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/imds"
	"github.com/ovenbird-dev/ovenbird/lab/logs"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/s3"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

const (
	// Image is the one that is there to be launched.
	Image = "ami-0123456789abcdef0"
	// Profile is the instance profile that there always is.
	Profile = "ovenbird-node"
)

// Lab is a running one.
type Lab struct {
	Plan   vpc.Plan
	Fleet  *fleet.Fleet
	Groups *autoscaling.Groups
	// Stop ends the lab as if its daemon were killed. The end of the test does so, too.
	Stop func()

	roles  identity.Roles
	iam    *iam.Store
	server *httptest.Server
}

// Options are what labs differ in.
type Options struct {
	Dir     state.Dir             // of the state, with which another lab can go on
	Chances *fakeinstance.Chances // nil: no instance goes wrong
	// Groups changes Auto Scaling before it reads its record; nil: it is as in the daemon.
	Groups func(*autoscaling.Groups, *fleet.Fleet)
}

// ground is where fake instances stand: nothing is there to plug in, and every image has a disk.
type ground struct{}

func (ground) Plug(network.Port) error                      { return nil }
func (ground) Unplug(network.Port) error                    { return nil }
func (ground) Announce([]dnsmasq.Host) error                { return nil }
func (ground) Disk(string) (path string, _ []byte, _ error) { return "disk", nil, nil }

const adminKey, adminSecret = "AKIATEST", "secret"

// Start runs a lab until the test ends, or Stop.
func Start(t testing.TB, o Options) *Lab {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l := &Lab{Plan: vpc.Default(), roles: identity.Roles{Secret: make([]byte, 32), Now: time.Now}}
	logger := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	must(o.Dir.Make())
	networks, err := vpc.Open(l.Plan, o.Dir.Networks())
	must(err)
	l.Plan.Networks = networks
	l.iam = &iam.Store{Path: o.Dir.Roles(), Plan: l.Plan, Profile: Profile, Now: time.Now}
	must(l.iam.Open())
	machines := fakeinstance.New(o.Chances)
	l.Fleet, err = fleet.Open(fleet.Options{
		Plan: l.Plan, Dir: o.Dir, Machines: machines, Disks: ground{}, Network: ground{}, Role: l.iam.Role, Now: time.Now, Logger: logger,
		ShutdownLimit: time.Minute, Retention: time.Hour,
	})
	must(err)
	images, err := catalog.Open(catalog.Options{
		Dir: string(o.Dir), Account: l.Plan.Account, Regions: l.Plan.Regions(), Now: time.Now, Logger: logger,
		Baked: func() []catalog.Image {
			return []catalog.Image{{ID: Image, Region: l.Plan.Region, RootDevice: "/dev/xvda", Size: 1 << 30}}
		},
	})
	must(err)
	parameters := &ssm.Store{Path: o.Dir.Parameters(), Catalog: images, Now: time.Now}
	l.Groups = &autoscaling.Groups{Path: o.Dir.Scaling(), Fleet: l.Fleet, Subnet: l.Plan.Subnet, Now: time.Now, Logger: logger}
	if o.Groups != nil {
		o.Groups(l.Groups, l.Fleet)
	}
	stacks := &cloudformation.Stacks{Path: o.Dir.Stacks(), Plan: l.Plan, Now: time.Now, Logger: logger}
	kept := &recorded.Store{Path: o.Dir.Recorded(), Plan: l.Plan}
	inventory := &ec2.Inventory{Path: o.Dir.Inventory()}
	buckets := &s3.Store{Dir: o.Dir.Buckets(), Region: l.Plan.Region, Now: time.Now}
	shipped := &logs.Store{Dir: o.Dir.Logs(), Now: time.Now}
	for _, open := range []func() error{parameters.Open, l.Groups.Open, stacks.Open, kept.Open, inventory.Open, buckets.Open, shipped.Open} {
		must(open())
	}
	admin := identity.Credential{AccessKeyID: adminKey, SecretAccessKey: adminSecret, ARN: l.Plan.IAM("user/admin")}
	l.server = httptest.NewTLSServer(endpoint.New(endpoint.Options{
		Plan: l.Plan, Fleet: l.Fleet, Catalog: images, Inventory: inventory, Store: parameters, Groups: l.Groups, Stacks: stacks, IAM: l.iam, Recorded: kept, Buckets: buckets, Logs: shipped,
		Keys: identity.Keys{Lasting: []identity.Credential{admin}, Roles: l.roles, Sessions: l.Fleet.Sessions}, Now: time.Now, Logger: logger,
	}))
	// The agents have connections of their own, each for one call, as in the daemon.
	agents := l.server.Client().Transport.(*http.Transport).Clone()
	agents.DisableKeepAlives = true
	machines.Open(fakeinstance.Surroundings{
		Instances: l.Fleet, Endpoint: l.server.URL, Client: &http.Client{Transport: agents}, Region: l.Plan.Region, Now: time.Now, Logger: logger,
		Metadata: imds.Service{Plan: l.Plan, Instances: l.Fleet, Roles: l.roles, Role: l.iam.Role, Secret: make([]byte, 32), Now: time.Now, Logger: logger},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Fleet.Run(ctx) })
	running.Go(func() { l.Groups.Run(ctx) })
	running.Go(func() { stacks.Run(ctx) })
	l.Stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		machines.Close()
		l.server.CloseClientConnections()
		l.server.Close()
		images.Close()
	})
	t.Cleanup(l.Stop)
	return l
}

// Config reaches the lab as the account's administrator, who tries each call once.
func (l *Lab) Config() aws.Config { return l.config(adminKey, adminSecret, "") }

// As is Config for the role of an instance.
func (l *Lab) As(i fleet.Instance) aws.Config {
	s := l.roles.Session(l.Plan.AssumedRole(l.iam.Role(i.Profile), i.ID))
	return l.config(s.AccessKeyID, s.SecretAccessKey, s.SessionToken)
}

func (l *Lab) config(key, secret, token string) aws.Config {
	return aws.Config{
		Region: l.Plan.Region, BaseEndpoint: &l.server.URL, HTTPClient: sdktest.Client(l.server),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} }, Credentials: credentials.NewStaticCredentialsProvider(key, secret, token),
	}
}
