package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/kubetest"
	"github.com/ovenbird-dev/ovenbird/control-plane/metrics"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	reviewRuns  = 5
	requestRuns = 3
	callers     = 8 // at once
	goodNodes   = 950
	badNodes    = 50
)

// fleet is EC2 with the instances of one cluster. It answers at once, so that what is
// measured is the service.
type fleet struct{ byID, byName map[string]types.Instance }

func (f fleet) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	var found []types.Instance
	add := func(i types.Instance, ok bool) {
		if ok {
			found = append(found, i)
		}
	}
	for _, id := range in.InstanceIds {
		i, ok := f.byID[id]
		add(i, ok)
	}
	for _, filter := range in.Filters {
		for _, value := range filter.Values {
			switch *filter.Name {
			case "instance-id":
				i, ok := f.byID[value]
				add(i, ok)
			case "private-dns-name":
				i, ok := f.byName[value]
				add(i, ok && i.State.Name == types.InstanceStateNameRunning)
			}
		}
	}
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{{Instances: found}}}, nil
}

const (
	benchCluster = "kitchen"
	benchRole    = "arn:aws:iam::111122223333:role/ovenbird-node"
)

func memberID(n int) string { return fmt.Sprintf("i-%08x", n) }
func memberName(n int) string {
	return fmt.Sprintf("ip-10-0-%d-%d.us-west-2.compute.internal", n/256, n%256)
}

// newFleet returns the instances of all nodes. Those of one half of the bad ones are no
// members: terminated, or without the cluster's tag.
func newFleet() fleet {
	f := fleet{map[string]types.Instance{}, map[string]types.Instance{}}
	for n := range goodNodes + badNodes {
		i := types.Instance{
			InstanceId: aws.String(memberID(n)), VpcId: aws.String("vpc-1"), PrivateDnsName: aws.String(memberName(n)),
			PrivateIpAddress: aws.String(fmt.Sprintf("10.0.%d.%d", n/256, n%256)), LaunchTime: aws.Time(time.Now()),
			State:              &types.InstanceState{Name: types.InstanceStateNameRunning},
			IamInstanceProfile: &types.IamInstanceProfile{Arn: aws.String(strings.Replace(benchRole, "role", "instance-profile", 1))},
			Tags:               []types.Tag{{Key: aws.String("kubernetes.io/cluster/" + benchCluster), Value: aws.String("owned")}},
		}
		switch {
		case n < goodNodes:
		case n%4 == 0:
			i.State.Name = types.InstanceStateNameTerminated
		case n%4 == 1:
			i.Tags = nil
		}
		f.byID[*i.InstanceId], f.byName[*i.PrivateDnsName] = i, i
	}
	return f
}

// kitchen is a cluster whose API server, approver and roster run, and the STS of its account.
type kitchen struct {
	registry *registry.Registry
	cluster  registry.Cluster
	fleet    fleet
	sts      *httptest.Server
	admin    *rest.Config
}

// measureControlPlane measures what the service does for nodes: how fast it answers API
// servers about tokens, and how long a thousand nodes wait for certificates that start at once.
func measureControlPlane(ctx context.Context) (entries []Entry, err error) {
	stand := stage{ctx: ctx}
	defer stand.close()
	etcd := registrytest.Etcd(&stand) //nolint:contextcheck // the stage has it
	k := &kitchen{registry: registry.New(etcd), fleet: newFleet(), sts: httptest.NewTLSServer(stsOfKitchen{})}
	defer k.sts.Close()
	k.cluster, err = k.registry.Create(ctx, registry.Cluster{Name: benchCluster, ARN: "arn:aws:eks:us-west-2:111122223333:cluster/" + benchCluster, VPCID: "vpc-1"},
		registry.AccessEntry{PrincipalARN: benchRole, Type: registry.TypeEC2Linux})
	if err != nil {
		return nil, err
	}
	k.admin = kubetest.APIServer(&stand, etcd, nil, "") //nolint:contextcheck // the stage has it
	reviews, err := k.measureReviews(ctx)
	if err != nil {
		return nil, err
	}
	requests, err := k.measureRequests(ctx)
	return append(reviews, requests...), err
}

// webhook starts a token webhook that has nothing cached, and the roster that it asks.
func (k *kitchen) webhook(ctx context.Context) (server *httptest.Server, stop func(), err error) {
	admin, err := kubernetes.NewForConfig(k.admin)
	if err != nil {
		return nil, nil, err
	}
	roster := nodes.NewRoster(nodes.NewInstances(k.fleet, nil), metrics.New(), zap.NewNop())
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = roster.Run(ctx, k.cluster, admin) // ends with ctx
	}()
	// As the service has it: the burst that an API server may have is a thousand nodes'.
	tokens := iam.NewCachedTokens(ststoken.Verifier{HTTP: k.sts.Client(), Host: strings.TrimPrefix(k.sts.URL, "https://")},
		iam.NewLimiter(100, goodNodes+badNodes, nil), 10*time.Second, nil)
	server = httptest.NewTLSServer(iam.NewWebhook(k.registry, tokens, roster, zap.NewNop()))
	stop = func() {
		server.Close()
		cancel()
		<-ended
	}
	for tick := time.Tick(10 * time.Millisecond); roster.Vacate(ctx, benchCluster, nodes.Instance{}) != nil; {
		select {
		case <-tick:
		case <-ctx.Done():
			stop()
			return nil, nil, ctx.Err()
		}
	}
	return server, stop, nil
}

// attend runs the approver and the roster until ctx ends.
func (k *kitchen) attend(ctx context.Context, admin kubernetes.Interface) *errgroup.Group {
	figures, instances := metrics.New(), nodes.NewInstances(k.fleet, nil)
	roster := nodes.NewRoster(instances, figures, zap.NewNop())
	approver := nodes.Approver{
		Instances: instances, Entries: k.registry, Ledger: k.registry, Roster: roster,
		Recorder: figures, Pending: figures.Pending(), Log: zap.NewNop(),
	}
	var group errgroup.Group
	group.Go(func() error { return roster.Run(ctx, k.cluster, admin) })
	group.Go(func() error { return approver.Run(ctx, k.cluster, admin) })
	return &group
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
