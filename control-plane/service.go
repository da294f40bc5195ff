package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/access"
	"github.com/ovenbird-dev/ovenbird/control-plane/backup"
	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam/awsauth"
	"github.com/ovenbird-dev/ovenbird/control-plane/metrics"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	shutdownTimeout = 10 * time.Second
	attendantPause  = 5 * time.Second
)

// serve runs the service until ctx ends.
func serve(ctx context.Context, s settings, log *zap.Logger) (err error) {
	if s.stateDir, err = makeStateDir(s.stateDir); err != nil {
		return err
	}
	only, err := claim(s.stateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, only.release()) }()
	o, err := open(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	return o.run(ctx)
}

// service is what stands before anything answers.
type service struct {
	settings
	log      *zap.Logger
	versions []string // Kubernetes minors, oldest first
	figures  *metrics.Metrics
	front    *front
	hook     *webhook
	clouds   clouds
	store    *store

	api, reviews, scrapes net.Listener // scrapes is nil if nobody is to ask for metrics
}

// open finds whatever is wrong with the settings before it starts the registry.
func open(ctx context.Context, s settings, log *zap.Logger) (_ *service, err error) {
	o := &service{settings: s, log: log, figures: metrics.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	if o.api, err = listen(ctx, "the EKS API (--listen)", s.listen); err != nil {
		return nil, err
	}
	if o.versions, err = s.versions(); err != nil {
		return nil, err
	}
	release, err := s.catalog.Newest(o.versions[len(o.versions)-1])
	if err != nil {
		return nil, err
	}
	if o.front, err = openFront(s, log); err != nil {
		return nil, err
	}
	if o.hook, err = openWebhook(s.stateDir); err != nil {
		return nil, err
	}
	if o.reviews, err = listen(ctx, "the token webhook", o.hook.address); err != nil {
		return nil, err
	}
	if s.metricsListen != "" {
		if o.scrapes, err = listen(ctx, "metrics (--metrics-listen)", s.metricsListen); err != nil {
			return nil, err
		}
	}
	if o.clouds, err = connectAWS(ctx, s.region, o.figures); err != nil {
		return nil, err
	}
	o.store, err = openStore(ctx, s.stateDir, release, log)
	return o, err
}

// close gives up what is open. The registry and the clusters go on running.
func (o *service) close() error {
	for _, listener := range []net.Listener{o.api, o.reviews, o.scrapes} {
		if listener != nil {
			_ = listener.Close() // it may have ended with its server
		}
	}
	if o.store != nil {
		o.store.detach()
	}
	if o.front != nil {
		return o.front.close()
	}
	return nil
}

// run answers and looks after the clusters until ctx ends.
func (o *service) run(ctx context.Context) error {
	clusters := registry.New(o.store.client)
	// Before the API can make the first cluster.
	ledgerSince, err := clusters.CertificatesSince(ctx, time.Now())
	if err != nil {
		return err
	}
	instances := nodes.NewInstances(o.clouds.ec2, nil)
	configMaps := awsauth.NewClusters(o.log.Named("iam"))
	principals := iam.Principals{Registry: clusters, ConfigMaps: configMaps}
	record := nodeRecord{o.figures, o.front.audit}
	roster := nodes.NewRoster(instances, record, o.log.Named("nodes"))
	handler, err := o.front.api(clusters, principals, o.clouds, o.versions, o.log)
	if err != nil {
		return err
	}
	reconciler := cluster.New(cluster.Options{
		Site:     o.hook.site(o.stateDir, o.address, o.publicHost, o.catalog),
		Registry: clusters, Timing: supervise.Production(), Log: o.log, Now: time.Now,
		OnActive: attend(o.log, o.figures.Forget, []attendant{
			{"approver of node certificates", nodes.Approver{
				Instances: instances, Entries: principals, Ledger: clusters, LedgerSince: ledgerSince, Roster: roster,
				Recorder: record, Pending: o.figures.Pending(), Log: o.log.Named("nodes"),
			}},
			{"roster of nodes", roster},
			{"bindings of access policies", access.Bindings{Entries: clusters, Log: o.log.Named("access")}},
			{"reader of aws-auth", configMaps},
		}),
	})
	public := withIssuers(handler, clusters, o.stateDir, o.log.Named("oidc"))
	review := ownClusterOnly(counted(o.figures, iam.NewWebhook(principals, reviewTokens(o.clouds.sts), roster, o.log.Named("iam"))))

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, o.api, o.front.tls(), public, o.log) })
	group.Go(func() error { return serveHTTP(ctx, o.reviews, o.hook.tls(), review, o.log) })
	if o.scrapes != nil {
		group.Go(func() error { return serveHTTP(ctx, o.scrapes, nil, o.figures.Handler(), o.log) })
	}
	group.Go(func() error { reconciler.Run(ctx); return nil })
	group.Go(func() error { return renewKeys(ctx, o.log, o.store.keep, o.hook.renewKeys, o.front.renewKeys) })
	if o.backups != nil {
		group.Go(func() error {
			backup.Run(ctx, backup.Options{
				StateDir: o.stateDir, Registry: clusters, Place: o.backups.place, Key: o.backups.key, Keep: o.backups.keep,
				Verify: verifyElsewhere, Log: o.log.Named("backup"), Now: time.Now,
			}, o.backups.interval)
			return nil
		})
	}
	if o.logs.group != "" {
		group.Go(func() error { o.shipLogs(ctx, clusters); return nil })
	}
	o.log.Info("ready", zap.String("eks_api", o.front.url()), zap.String("ca_file", o.front.authorityFile()), o.front.authority(), zap.Strings("kubernetes", o.versions), zap.String("state", o.stateDir))
	// Without systemd these do nothing.
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	<-ctx.Done()
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	o.log.Info("stopping")
	return group.Wait()
}

// clouds are the AWS services that the control plane asks.
type clouds struct {
	ec2  *ec2.Client
	logs *cloudwatchlogs.Client
	sts  ststoken.Verifier
}

func connectAWS(ctx context.Context, region string, figures *metrics.Metrics) (clouds, error) {
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return clouds{}, fmt.Errorf("read the AWS configuration: %w", err)
	}
	host := ststoken.Host(region)
	if endpoint := sts.NewFromConfig(loaded).Options().BaseEndpoint; endpoint != nil {
		parsed, err := url.Parse(*endpoint)
		if err != nil || parsed.Host == "" {
			return clouds{}, fmt.Errorf("the AWS configuration names %q as the endpoint of STS: want https://host", *endpoint)
		}
		host = parsed.Host
	}
	return clouds{
		ec2:  ec2.NewFromConfig(loaded, func(o *ec2.Options) { o.APIOptions = append(o.APIOptions, figures.Calls) }),
		logs: cloudwatchlogs.NewFromConfig(loaded),
		sts:  ststoken.Verifier{HTTP: httpClient(loaded), Host: host},
	}, nil
}

// httpClient trusts what the AWS configuration trusts, AWS_CA_BUNDLE included.
func httpClient(loaded aws.Config) *http.Client {
	if buildable, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
		return &http.Client{Transport: buildable.GetTransport()}
	}
	return http.DefaultClient
}

// attendant is something that runs beside each ACTIVE cluster.
type attendant struct {
	name string
	runs interface {
		// Run works until ctx ends, or until it cannot go on.
		Run(ctx context.Context, c registry.Cluster, client kubernetes.Interface) error
	}
}

// attend runs the attendants of one ACTIVE cluster until its context ends, and then forgets
// the cluster.
func attend(log *zap.Logger, forget func(cluster string), attendants []attendant) func(context.Context, registry.Cluster, *rest.Config) {
	return func(ctx context.Context, c registry.Cluster, config *rest.Config) {
		var group sync.WaitGroup
		for _, a := range attendants {
			group.Go(func() { a.attend(ctx, c, config, log.With(zap.String("cluster", c.Name))) })
		}
		group.Wait()
		forget(c.Name)
	}
}

// attend starts the attendant again whenever it ends.
func (a attendant) attend(ctx context.Context, c registry.Cluster, config *rest.Config, log *zap.Logger) {
	for {
		client, err := kubernetes.NewForConfig(config)
		if err == nil {
			err = a.runs.Run(ctx, c, client)
		}
		if ctx.Err() != nil {
			return
		}
		pause := attendantPause/2 + rand.N(attendantPause)
		log.Error(a.name+" ended", zap.Error(err), zap.Duration("next_start_in", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// renewKeys looks at the service's own certificates from time to time.
func renewKeys(ctx context.Context, log *zap.Logger, renew ...func(time.Time) error) error {
	ticker := time.NewTicker(keyRefresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			for _, f := range renew {
				if err := f(now); err != nil {
					log.Error("renew the service's certificates", zap.Error(err))
				}
			}
		}
	}
}

// serveHTTP serves until ctx ends, and then lets requests in flight finish. Without a TLS
// configuration it serves plain HTTP.
func serveHTTP(ctx context.Context, listener net.Listener, config *tls.Config, handler http.Handler, log *zap.Logger) error {
	errorLog, err := zap.NewStdLogAt(log.Named("http"), zap.DebugLevel)
	if err != nil {
		return fmt.Errorf("make HTTP log: %w", err)
	}
	server := &http.Server{
		Handler: handler, TLSConfig: config, ErrorLog: errorLog,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
	}
	finished := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(finished)
		// The caller's context has ended; requests get a time of their own.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	if config == nil {
		err = server.Serve(listener)
	} else {
		err = server.ServeTLS(listener, "", "")
	}
	if !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	<-finished
	return nil
}
