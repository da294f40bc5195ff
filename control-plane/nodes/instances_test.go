package nodes

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	certificates "k8s.io/api/certificates/v1"
)

// cloud is EC2 with the given instances. It looks at IDs but not at filters.
type cloud struct {
	mu        sync.Mutex
	instances []types.Instance
	err       error
	wait      func(context.Context) error
	calls     atomic.Int32
}

func (c *cloud) set(err error, instances ...types.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.instances = err, instances
}

func (c *cloud) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	c.calls.Add(1)
	if c.wait != nil {
		if err := c.wait(ctx); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	out := &ec2.DescribeInstancesOutput{}
	for _, i := range c.instances {
		if len(in.InstanceIds) == 0 || in.InstanceIds[0] == *i.InstanceId {
			out.Reservations = append(out.Reservations, types.Reservation{Instances: []types.Instance{i}})
		}
	}
	if len(in.InstanceIds) > 0 && len(out.Reservations) == 0 {
		return nil, &smithy.GenericAPIError{Code: "InvalidInstanceID.NotFound"}
	}
	return out, nil
}

func inEC2(change ...func(*types.Instance)) types.Instance {
	i := types.Instance{
		InstanceId: aws.String(nodeID), VpcId: aws.String("vpc-1"), PrivateDnsName: aws.String(nodeName), PrivateIpAddress: aws.String("10.0.1.2"),
		State:              &types.InstanceState{Name: types.InstanceStateNameRunning},
		IamInstanceProfile: &types.IamInstanceProfile{Arn: aws.String("arn:aws:iam::111122223333:instance-profile/ovenbird-node")},
		Tags:               []types.Tag{{Key: aws.String("kubernetes.io/cluster/kitchen"), Value: aws.String("owned")}},
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

func TestAnInstanceIsReadAsEC2DescribesIt(t *testing.T) {
	ec2 := &cloud{instances: []types.Instance{inEC2()}}
	got, err := NewInstances(ec2, nil).ByID(t.Context(), nodeID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(got.CheckMember(kitchen), got.CheckRole(nodeRole)); err != nil || got.Username() != nodeUser || got.ID != nodeID {
		t.Errorf("got %+v: %v", got, err)
	}
	bare := fromEC2(types.Instance{})
	if bare.CheckMember(kitchen) == nil || bare.CheckRole(nodeRole) == nil {
		t.Error("an instance of which EC2 tells nothing passes")
	}
}

func TestAnInstanceHasTheAddressesOfAllItsInterfacesButNotThoseOfPods(t *testing.T) {
	ec2 := &cloud{instances: []types.Instance{inEC2(func(i *types.Instance) {
		i.PublicIpAddress, i.PublicDnsName = aws.String("192.0.2.1"), aws.String("ec2-192-0-2-1.example")
		i.NetworkInterfaces = []types.InstanceNetworkInterface{
			{
				PrivateIpAddress: aws.String("10.0.1.2"), Association: &types.InstanceNetworkInterfaceAssociation{PublicIp: aws.String("192.0.2.1")},
				Ipv6Addresses:      []types.InstanceIpv6Address{{Ipv6Address: aws.String("2001:db8::2")}},
				PrivateIpAddresses: []types.InstancePrivateIpAddress{{PrivateIpAddress: aws.String("10.0.1.2")}, {PrivateIpAddress: aws.String("10.0.1.77")}},
			},
			{PrivateIpAddress: aws.String("10.0.2.2")},
		}
	})}}
	got, err := NewInstances(ec2, nil).ByID(t.Context(), nodeID)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"10.0.1.2": true, "10.0.2.2": true, "192.0.2.1": true, "2001:db8::2": true, "10.0.1.77": false, "10.0.1.3": false,
	} {
		if got.hasAddress(netip.MustParseAddr(address)) != want {
			t.Errorf("%s: got %t", address, !want)
		}
	}
	if !got.hasName("ec2-192-0-2-1.example") || got.hasName("") {
		t.Errorf("names of %+v", got)
	}
}

func TestOnlyAnExactNameIsFound(t *testing.T) {
	ec2 := &cloud{instances: []types.Instance{
		inEC2(),
		inEC2(func(i *types.Instance) {
			i.InstanceId, i.PrivateDnsName = aws.String("i-2"), aws.String("ip-10-0-1-20")
		}),
		inEC2(func(i *types.Instance) { i.InstanceId, i.VpcId = aws.String("i-3"), aws.String("vpc-2") }),
		inEC2(func(i *types.Instance) {
			i.InstanceId, i.State = aws.String("i-4"), &types.InstanceState{Name: types.InstanceStateNameTerminated}
		}),
	}}
	found, err := NewInstances(ec2, nil).ByName(t.Context(), "vpc-1", nodeName)
	if err != nil || len(found) != 1 || found[0].ID != nodeID {
		t.Errorf("got %+v, %v", found, err)
	}
	if found, err := NewInstances(ec2, nil).ByName(t.Context(), "vpc-1", "*"); err != nil || len(found) != 0 {
		t.Errorf("by wildcard: got %+v, %v", found, err)
	}
}

func TestAnUnknownInstanceIsNotFoundAndANonsenseIDNotAskedFor(t *testing.T) {
	ec2 := &cloud{}
	instances := NewInstances(ec2, nil)
	if _, err := instances.ByID(t.Context(), nodeID); !errors.Is(err, ErrNoInstance) {
		t.Errorf("got %v, want ErrNoInstance", err)
	}
	calls := ec2.calls.Load()
	for _, id := range []string{"", "jane", "i-", "i-012345678,i-2", "i-*"} {
		if _, err := instances.ByID(t.Context(), id); !errors.Is(err, ErrNoInstance) {
			t.Errorf("%q: got %v, want ErrNoInstance", id, err)
		}
	}
	if ec2.calls.Load() != calls {
		t.Error("EC2 was asked about what is no ID")
	}
}

func TestAnAnswerServesForSecondsOnlyAndAFailureNotAtAll(t *testing.T) {
	now := time.Now()
	ec2 := &cloud{err: errors.New("throttled")}
	instances := NewInstances(ec2, func() time.Time { return now })
	if _, err := instances.ByID(t.Context(), nodeID); err == nil || errors.Is(err, ErrNoInstance) {
		t.Fatalf("got %v, want EC2's error", err)
	}
	ec2.set(nil, inEC2())
	for range 3 {
		if _, err := instances.ByID(t.Context(), nodeID); err != nil {
			t.Fatal(err)
		}
	}
	if n := ec2.calls.Load(); n != 2 {
		t.Errorf("%d calls, want the failed one and one more", n)
	}
	now = now.Add(freshFor)
	ec2.set(nil)
	if _, err := instances.ByID(t.Context(), nodeID); !errors.Is(err, ErrNoInstance) {
		t.Errorf("after %s: got %v, want ErrNoInstance", freshFor, err)
	}
	if len(instances.answers) != 1 {
		t.Errorf("%d answers kept, want the fresh one alone", len(instances.answers))
	}
}

func TestRefusalsOfANameAskEC2AgainOnceInAWhile(t *testing.T) {
	now := time.Now()
	ec2 := &cloud{}
	d := desk{Approver: Approver{Instances: NewInstances(ec2, func() time.Time { return now })}, cluster: kitchen}
	begin, request := now, &certificates.CertificateSigningRequest{Spec: clientSpec(t)}
	for _, step := range []struct {
		at    time.Duration
		calls int32
		why   string
	}{
		{0, 1, "there is no answer"},
		{settledAfter - 1, 1, "the answer is new"},
		{settledAfter, 2, "the answer may be behind the times"},
		{settledAfter + freshFor - 1, 2, "it has been asked again"},
		{settledAfter + freshFor, 3, "the answer has ended"},
		{2*settledAfter + freshFor, 4, "the answer may be behind the times again"},
	} {
		now = begin.Add(step.at)
		for range 10 {
			var refusal Refusal
			if _, err := d.decide(t.Context(), request); !errors.As(err, &refusal) || refusal.Class != ClassHolder {
				t.Fatalf("got %v, want a refusal", err)
			}
		}
		if calls := ec2.calls.Load(); calls != step.calls {
			t.Errorf("after %s: %d calls, want %d, as %s", step.at, calls, step.calls, step.why)
		}
	}
	if len(d.Instances.answers) != 1 || len(d.Instances.forgotten) != 1 {
		t.Errorf("kept %v and %v", d.Instances.answers, d.Instances.forgotten)
	}
}

func TestCallersThatAskAtOnceShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ec2 := &cloud{instances: []types.Instance{inEC2()}, wait: func(ctx context.Context) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		instances := NewInstances(ec2, nil)
		// The first caller gives up; the others get their answer all the same.
		first, giveUp := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := instances.ByID(first, nodeID)
			gone <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := instances.ByID(t.Context(), nodeID); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		giveUp()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		close(release)
		wg.Wait()
		if n := ec2.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

func TestALookupEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ec2 := &cloud{wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		begin := time.Now()
		if _, err := NewInstances(ec2, nil).ByID(t.Context(), nodeID); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != lookupTimeout {
			t.Errorf("got %v after %s, want the deadline after %s", err, time.Since(begin), lookupTimeout)
		}
	})
}
