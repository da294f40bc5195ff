package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/control"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/imds"
	"github.com/ovenbird-dev/ovenbird/lab/proxy"
	"github.com/ovenbird-dev/ovenbird/lab/registry"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
)

// serve opens every port and starts to answer. What cannot be opened is an error here.
func (o Options) serve(ctx context.Context, group *errgroup.Group, instances *fleet.Fleet, images *catalog.Catalog) error {
	secret, err := identity.ReadSecret(o.Dir.Secret())
	if err != nil {
		return err
	}
	roles := identity.Roles{Secret: secret, Now: time.Now}
	faults := &fault.Set{}
	services, err := o.services(instances, images, roles, faults)
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
	o.answer(ctx, group, metadata, imds.Service{
		Plan: o.Plan, Instances: instances, Roles: roles, Secret: secret, Now: time.Now, Logger: o.Logger.Named("imds"),
	})
	o.answer(ctx, group, aws, services)
	o.answer(ctx, group, pulls, containers)
	o.answer(ctx, group, commands, control.Handler(faults))
	o.answer(ctx, group, o.Proxy, proxy.Proxy{Allowed: o.Plan.CIDR, Resolver: o.Plan.Lookup(), Logger: o.Logger.Named("proxy")})
	return nil
}

// services are AWS's.
func (o Options) services(instances *fleet.Fleet, images *catalog.Catalog, roles identity.Roles, faults *fault.Set) (http.Handler, error) {
	lasting, err := identity.ReadCredentials(o.Dir.Credentials())
	if err != nil {
		return nil, err
	}
	parameters := &ssm.Store{Path: o.Dir.Parameters(), Catalog: images, Now: time.Now}
	if err := parameters.Open(); err != nil {
		return nil, err
	}
	return endpoint.New(endpoint.Options{
		Plan: o.Plan, Fleet: instances, Catalog: images, Store: parameters, Profiles: []string{NodeProfile},
		Keys: identity.Keys{Lasting: lasting, Roles: roles, Sessions: instances.Sessions},
		Now:  time.Now, Logger: o.Logger.Named("aws"), Faults: faults,
	}), nil
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
