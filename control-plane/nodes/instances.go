package nodes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/singleflight"
)

const (
	// freshFor is how long an answer of EC2 serves. A node asks for its token review, its
	// client and its serving certificate within seconds; an instance that stops is refused
	// after as many.
	freshFor = 3 * time.Second
	// settledAfter is how old an answer is at least before it is asked for again: a node that
	// is refused, and tries on, must not use up the calls that EC2 has for the others.
	settledAfter = time.Second
	// lookupTimeout bounds one lookup, the SDK's own retries included.
	lookupTimeout = 10 * time.Second
)

// ErrNoInstance means that EC2 knows no such instance.
var ErrNoInstance = errors.New("no such instance")

// EC2 describes instances; *ec2.Client is one.
type EC2 interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

// Instances looks instances up in EC2. Callers that ask for the same one at once share a
// call, and an answer serves for a few seconds. It is safe for concurrent use.
type Instances struct {
	ec2   EC2
	now   func() time.Time
	calls singleflight.Group

	mu        sync.Mutex
	answers   map[string]answer
	forgotten map[string]time.Time // when the answer was, by key
}

type answer struct {
	instances []Instance
	at        time.Time
}

// NewInstances returns lookups in EC2; now may be nil for time.Now.
func NewInstances(ec2 EC2, now func() time.Time) *Instances {
	if now == nil {
		now = time.Now
	}
	return &Instances{ec2: ec2, now: now, answers: map[string]answer{}, forgotten: map[string]time.Time{}}
}

var instanceID = regexp.MustCompile(`^i-[0-9a-f]{8,32}$`)

// ByID returns the instance, in whatever state it is; ErrNoInstance when there is none.
func (s *Instances) ByID(ctx context.Context, id string) (Instance, error) {
	if !instanceID.MatchString(id) {
		return Instance{}, fmt.Errorf("%.40q is no instance ID: %w", id, ErrNoInstance)
	}
	found, err := s.lookup(ctx, id, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return Instance{}, fmt.Errorf("look up instance %s: %w", id, err)
	}
	for _, i := range found {
		if i.ID == id {
			return i, nil
		}
	}
	return Instance{}, fmt.Errorf("look up instance %s: %w", id, ErrNoInstance)
}

// ByName returns the running instances of a VPC that have the private DNS name.
func (s *Instances) ByName(ctx context.Context, vpcID, privateDNSName string) ([]Instance, error) {
	found, err := s.lookup(ctx, nameKey(vpcID, privateDNSName), &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{vpcID}},
		{Name: aws.String("private-dns-name"), Values: []string{privateDNSName}},
		{Name: aws.String("instance-state-name"), Values: []string{stateRunning}},
	}})
	if err != nil {
		return nil, fmt.Errorf("look up the instance named %s in %s: %w", privateDNSName, vpcID, err)
	}
	// A filter's value may hold wildcards; only what has the very name counts.
	var named []Instance
	for _, i := range found {
		if i.PrivateDNSName == privateDNSName && i.VPCID == vpcID && i.State == stateRunning {
			named = append(named, i)
		}
	}
	return named, nil
}

// Forget has the next ByName of that name ask EC2 anew, and returns true, unless the answer
// is very new or another one was forgotten lately.
func (s *Instances) Forget(vpcID, privateDNSName string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := nameKey(vpcID, privateDNSName), s.now()
	if now.Sub(s.answers[key].at) < settledAfter || now.Sub(s.forgotten[key]) < freshFor {
		return false
	}
	delete(s.answers, key)
	s.forgotten[key] = now
	return true
}

func nameKey(vpcID, privateDNSName string) string { return vpcID + "/" + privateDNSName }

// batch is how many instances one call asks about; EC2 takes 200 values a filter.
const batch = 100

// States asks EC2 now, and returns what it knows of the instances, in whatever state, by
// ID. It asks by filter: one ID that EC2 has forgotten would fail a call that names IDs.
func (s *Instances) States(ctx context.Context, ids []string) (map[string]Instance, error) {
	known := map[string]Instance{}
	for some := range slices.Chunk(ids, batch) {
		call, cancel := context.WithTimeout(ctx, lookupTimeout)
		found, err := s.describe(call, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance-id"), Values: some}}})
		cancel()
		if err != nil {
			return nil, fmt.Errorf("look up %d instances: %w", len(some), err)
		}
		for _, i := range found {
			known[i.ID] = i
		}
	}
	return known, nil
}

func (s *Instances) lookup(ctx context.Context, key string, input *ec2.DescribeInstancesInput) ([]Instance, error) {
	s.mu.Lock()
	known, ok := s.answers[key]
	s.mu.Unlock()
	if ok && s.now().Sub(known.at) < freshFor {
		return known.instances, nil
	}
	// The call outlives a caller that gives up, for the others that wait for it.
	result := s.calls.DoChan(key, func() (any, error) {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
		defer cancel()
		found, err := s.describe(call, input)
		if err == nil {
			s.remember(key, found)
		}
		return found, err
	})
	select {
	case r := <-result:
		found, _ := r.Val.([]Instance)
		return found, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// remember keeps an answer, and forgets those that are no longer fresh.
func (s *Instances) remember(key string, found []Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	maps.DeleteFunc(s.answers, func(_ string, a answer) bool { return now.Sub(a.at) >= freshFor })
	maps.DeleteFunc(s.forgotten, func(_ string, at time.Time) bool { return now.Sub(at) >= freshFor })
	s.answers[key] = answer{found, now}
}

func (s *Instances) describe(ctx context.Context, input *ec2.DescribeInstancesInput) ([]Instance, error) {
	var found []Instance
	pages := ec2.NewDescribeInstancesPaginator(s.ec2, input)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		var refusal smithy.APIError
		if errors.As(err, &refusal) && strings.HasPrefix(refusal.ErrorCode(), "InvalidInstanceID.") {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, reservation := range page.Reservations {
			for _, i := range reservation.Instances {
				found = append(found, fromEC2(i))
			}
		}
	}
	return found, nil
}

func fromEC2(i types.Instance) Instance {
	instance := Instance{
		ID: aws.ToString(i.InstanceId), VPCID: aws.ToString(i.VpcId), PrivateDNSName: aws.ToString(i.PrivateDnsName),
		PublicDNSName: aws.ToString(i.PublicDnsName), Launched: aws.ToTime(i.LaunchTime), Tags: map[string]string{},
	}
	if i.State != nil {
		instance.State = string(i.State.Name)
	}
	if i.IamInstanceProfile != nil {
		instance.ProfileARN = aws.ToString(i.IamInstanceProfile.Arn)
	}
	if address, err := netip.ParseAddr(aws.ToString(i.PrivateIpAddress)); err == nil {
		instance.PrivateIP = address
	}
	instance.Addresses = addresses(i)
	for _, tag := range i.Tags {
		instance.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return instance
}

// addresses are the instance's own. A VPC CNI gives pods the secondary private addresses of
// an interface and the addresses of its prefixes, so those are not among them.
func addresses(i types.Instance) (own []netip.Addr) {
	texts := []*string{i.PublicIpAddress, i.Ipv6Address}
	for _, card := range i.NetworkInterfaces {
		texts = append(texts, card.PrivateIpAddress)
		if card.Association != nil {
			texts = append(texts, card.Association.PublicIp)
		}
		for _, address := range card.Ipv6Addresses {
			texts = append(texts, address.Ipv6Address)
		}
	}
	for _, text := range texts {
		if address, err := netip.ParseAddr(aws.ToString(text)); err == nil && !slices.Contains(own, address) {
			own = append(own, address)
		}
	}
	return own
}
