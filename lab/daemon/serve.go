package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/recorded"
	"github.com/ovenbird-dev/ovenbird/lab/control"
	"github.com/ovenbird-dev/ovenbird/lab/ec2"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint"
	"github.com/ovenbird-dev/ovenbird/lab/fakeinstance"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/imds"
	"github.com/ovenbird-dev/ovenbird/lab/logs"
	"github.com/ovenbird-dev/ovenbird/lab/proxy"
	"github.com/ovenbird-dev/ovenbird/lab/registry"
	"github.com/ovenbird-dev/ovenbird/lab/s3"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
)

// serve opens every port and starts to answer. What cannot be opened is an error here.
func (o Options) serve(ctx context.Context, group *errgroup.Group, instances *fleet.Fleet, images *catalog.Catalog, principals *iam.Store, fake *fakeinstance.Machines) error {
	secret, err := identity.ReadSecret(o.Dir.Secret())
	if err != nil {
		return err
	}
	roles := identity.Roles{Secret: secret, Now: time.Now}
	faults, signals := &fault.Set{}, &cloudformation.Signals{}
	groups := &autoscaling.Groups{Path: o.Dir.Scaling(), Fleet: instances, Subnet: o.Plan.Subnet, Now: time.Now, Logger: o.Logger.Named("autoscaling")}
	if err := groups.Open(); err != nil {
		return err
	}
	stacks := &cloudformation.Stacks{Path: o.Dir.Stacks(), Plan: o.Plan, Now: time.Now, Logger: o.Logger.Named("cloudformation")}
	if err := stacks.Open(); err != nil {
		return err
	}
	kept := &recorded.Store{Path: o.Dir.Recorded(), Plan: o.Plan}
	if err := kept.Open(); err != nil {
		return err
	}
	shipped := &logs.Store{Dir: o.Dir.Logs(), Now: time.Now}
	if err := shipped.Open(); err != nil {
		return err
	}
	services, err := o.services(instances, images, roles, endpoint.Options{
		Groups: groups, Stacks: stacks, Signals: signals, IAM: principals, Logs: shipped, Recorded: kept, Faults: faults,
	})
	if err != nil {
		return err
	}
	containers, err := registry.Open(o.Dir.Registry(), o.Plan.Guest, o.Logger.Named("registry"))
	if err != nil {
		return err
	}

	metadata, err := imds.Listen(ctx, netip.AddrPortFrom(o.Plan.Metadata, 80).String())
	if err != nil {
		return err
	}
	aws, err := o.listen(ctx, "aws", o.Plan.Endpoint)
	if err != nil {
		return err
	}
	pulls, err := o.listen(ctx, "registry", o.Plan.Registry)
	if err != nil {
		return err
	}
	commands, err := control.Listen(o.Dir.Control())
	if err != nil {
		return err
	}
	group.Go(func() error { groups.Run(ctx); return nil })
	group.Go(func() error { stacks.Run(ctx); return nil })
	told := imds.Service{
		Plan: o.Plan, Instances: instances, Roles: roles, Role: principals.Role, Secret: secret, Now: time.Now, Logger: o.Logger.Named("imds"),
	}
	if fake != nil {
		if err := o.surround(fake, instances, told); err != nil {
			return err
		}
	}
	o.answer(ctx, group, metadata, told)
	o.answer(ctx, group, aws, services)
	o.answer(ctx, group, pulls, containers)
	o.answer(ctx, group, commands, control.Handler(faults, instances, signals))
	o.answer(ctx, group, o.Proxy, proxy.Proxy{Allowed: o.Plan.Inside, Resolver: o.Plan.Lookup(), Logger: o.Logger.Named("proxy")})
	return nil
}

// drain is how long the agent of a fake instance takes to move the pods away.
const drain = 100 * time.Millisecond

// surround tells fake machines how their agents reach the metadata and AWS.
func (o Options) surround(fake *fakeinstance.Machines, instances *fleet.Fleet, metadata http.Handler) error {
	authority, err := os.ReadFile(o.Dir.CA())
	if err != nil {
		return fmt.Errorf("read the lab's authority: %w", err)
	}
	fake.Open(fakeinstance.Surroundings{
		Instances: instances, Metadata: metadata, Endpoint: "https://" + o.Plan.Endpoint.String(), Client: awscall.NewClient(authority, nil, nil),
		Region: o.Plan.Region, Drain: drain, Now: time.Now, Logger: o.Logger.Named("fakeinstance"),
	})
	return nil
}

// services are AWS's, with some of what they stand on made already.
func (o Options) services(instances *fleet.Fleet, images *catalog.Catalog, roles identity.Roles, on endpoint.Options) (http.Handler, error) {
	lasting, err := identity.ReadCredentials(o.Dir.Credentials())
	if err != nil {
		return nil, err
	}
	parameters := &ssm.Store{Path: o.Dir.Parameters(), Catalog: images, Now: time.Now}
	if err := parameters.Open(); err != nil {
		return nil, err
	}
	on.Inventory = &ec2.Inventory{Path: o.Dir.Inventory()}
	if err := on.Inventory.Open(); err != nil {
		return nil, err
	}
	on.Buckets = &s3.Store{Dir: o.Dir.Buckets(), Region: o.Plan.Region, Now: time.Now}
	if err := on.Buckets.Open(); err != nil {
		return nil, err
	}
	on.Plan, on.Fleet, on.Catalog, on.Store = o.Plan, instances, images, parameters
	on.Keys = identity.Keys{Lasting: lasting, Roles: roles, Sessions: instances.Sessions}
	on.Now, on.Logger = time.Now, o.Logger.Named("aws")
	return endpoint.New(on), nil
}

// listen opens an endpoint's port, with its certificate.
func (o Options) listen(ctx context.Context, name string, address netip.Addr) (net.Listener, error) {
	file := filepath.Join(o.Dir.TLS(), name)
	certificate, err := tls.LoadX509KeyPair(file+".crt", file+".key")
	if err != nil {
		return nil, fmt.Errorf("read the certificate of the endpoint %s: %w", name, err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", netip.AddrPortFrom(address, 443).String())
	if err != nil {
		return nil, fmt.Errorf("open the port of the endpoint %s: %w", name, err)
	}
	return tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}), nil
}

// answer serves HTTP until the context ends.
func (o Options) answer(ctx context.Context, group *errgroup.Group, listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: zap.NewStdLog(o.Logger.Named("http")),
	}
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("answer at %s: %w", listener.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
}
