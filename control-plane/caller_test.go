package main

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

// state is what a caller knows of a thing from the answers it got.
type state int

const (
	unknown state = iota // a call was made and not answered
	absent
	present
	leaving // a cluster whose deletion was accepted
)

type entry struct{ cluster, principal string }

const tag = "call"

var (
	clusterNames = []string{"blue", "green"}
	principals   = []string{guest, guest + "-2", guest + "-3", guest + "-4"}
)

// caller calls the API, one call after the other, and keeps the books. It starts with
// nothing there.
type caller struct {
	*rig
	rand     *rand.Rand
	clusters map[string]state
	entries  map[entry]state
	tags     map[string][]string // the values that a cluster's tag may have; nil: any
	calls    int
}

func newCaller(r *rig, seed uint64) *caller {
	return &caller{
		rig: r, rand: rand.New(rand.NewPCG(seed, 0)),
		clusters: map[string]state{}, entries: map[entry]state{}, tags: map[string][]string{},
	}
}

func once(o *eks.Options) { o.Retryer = aws.NopRetryer{} }

func (c *caller) call() {
	c.calls++
	name := clusterNames[c.rand.IntN(len(clusterNames))]
	e := entry{name, principals[c.rand.IntN(len(principals))]}
	dice := c.rand.IntN(40)
	if c.known(name) != present {
		dice = 0
	}
	switch {
	case dice == 0:
		c.createCluster(name)
	case dice == 1:
		c.deleteCluster(name)
	case dice < 15:
		c.createEntry(e)
	case dice < 25:
		c.deleteEntry(e)
	case dice < 28:
		c.tagCluster(name)
	case dice < 32:
		c.describeCluster(name)
	default:
		c.describeEntry(e)
	}
}

// known is what is known of a cluster; at first that it is absent.
func (c *caller) known(name string) state {
	if s, ok := c.clusters[name]; ok {
		return s
	}
	return absent
}

// forget says that nothing is known of a cluster's entries and tag.
func (c *caller) forget(name string) {
	delete(c.tags, name)
	for e := range c.entries {
		if e.cluster == name {
			c.entries[e] = unknown
		}
	}
}

func (c *caller) lost(format string, args ...any) {
	c.Errorf("call %d: "+format, append([]any{c.calls}, args...)...)
}

func (c *caller) createCluster(name string) {
	before, err := c.known(name), c.Create(c.ctx, name, once)
	var taken *types.ResourceInUseException
	switch {
	case err == nil:
		if before == present {
			c.lost("cluster %s was there and could be created again", name)
		}
		c.clusters[name] = present
		c.tags[name] = []string{""}
		for _, principal := range principals {
			c.entries[entry{name, principal}] = absent
		}
	case errors.As(err, &taken):
		if before == absent {
			c.lost("cluster %s was gone and is there again", name)
		}
		if before == unknown {
			c.describeCluster(name)
		}
	case before != present:
		c.clusters[name] = unknown
		c.forget(name)
	}
}

// tagCluster writes a tag that says which call it was.
func (c *caller) tagCluster(name string) {
	value := strconv.Itoa(c.calls)
	_, err := c.EKS.TagResource(c.ctx, &eks.TagResourceInput{
		ResourceArn: aws.String("arn:aws:eks:us-west-2:111122223333:cluster/" + name), Tags: map[string]string{tag: value},
	}, once)
	var gone *types.NotFoundException
	switch {
	case err == nil:
		c.tags[name] = []string{value}
	case errors.As(err, &gone):
		c.lost("cluster %s is gone: %v", name, err)
	case c.tags[name] != nil:
		c.tags[name] = append(c.tags[name], value)
	}
}

// describeCluster looks at a cluster's tag, and finds out about one whose creation or
// deletion was not answered.
func (c *caller) describeCluster(name string) {
	answer, err := c.EKS.DescribeCluster(c.ctx, &eks.DescribeClusterInput{Name: aws.String(name)}, once)
	if err != nil {
		return
	}
	if answer.Cluster.Status == types.ClusterStatusDeleting {
		c.clusters[name] = leaving
		return
	}
	c.clusters[name] = present
	value := answer.Cluster.Tags[tag]
	if possible := c.tags[name]; possible != nil && !slices.Contains(possible, value) {
		c.lost("cluster %s is tagged %q, want one of %q", name, value, possible)
	}
	c.tags[name] = []string{value}
}

func (c *caller) deleteCluster(name string) {
	_, err := c.EKS.DeleteCluster(c.ctx, &eks.DeleteClusterInput{Name: aws.String(name)}, once)
	var gone *types.ResourceNotFoundException
	switch {
	case errors.As(err, &gone):
		c.lost("cluster %s is gone", name)
		c.clusters[name] = absent
	case err == nil:
		c.clusters[name] = leaving
	default:
		c.clusters[name] = unknown
	}
	c.forget(name)
}

func (c *caller) createEntry(e entry) {
	_, err := c.EKS.CreateAccessEntry(c.ctx, &eks.CreateAccessEntryInput{ClusterName: &e.cluster, PrincipalArn: &e.principal}, once)
	var taken *types.ResourceInUseException
	switch {
	case err == nil && c.entries[e] == present:
		c.lost("entry %v was there and could be created again", e)
	case err == nil:
		c.entries[e] = present
	case errors.As(err, &taken) && c.entries[e] == absent:
		c.lost("entry %v was gone and is there again", e)
	case errors.As(err, &taken):
		c.entries[e] = present
	default:
		c.unanswered(e, present, err)
	}
}

func (c *caller) deleteEntry(e entry) {
	_, err := c.EKS.DeleteAccessEntry(c.ctx, &eks.DeleteAccessEntryInput{ClusterName: &e.cluster, PrincipalArn: &e.principal}, once)
	var gone *types.ResourceNotFoundException
	switch {
	case err == nil && c.entries[e] == absent:
		c.lost("entry %v was gone and could be deleted again", e)
	case err == nil:
		c.entries[e] = absent
	case errors.As(err, &gone) && c.entries[e] == present:
		c.lost("entry %v is gone: %v", e, err)
	case errors.As(err, &gone):
		c.entries[e] = absent
	default:
		c.unanswered(e, absent, err)
	}
}

// unanswered: the call may have had its effect, unless that was there before.
func (c *caller) unanswered(e entry, wanted state, err error) {
	var gone *types.ResourceNotFoundException
	if errors.As(err, &gone) {
		c.lost("cluster %s is gone: %v", e.cluster, err)
	}
	if c.entries[e] != wanted {
		c.entries[e] = unknown
	}
}

func (c *caller) describeEntry(e entry) {
	_, err := c.EKS.DescribeAccessEntry(c.ctx, &eks.DescribeAccessEntryInput{ClusterName: &e.cluster, PrincipalArn: &e.principal}, once)
	var gone *types.ResourceNotFoundException
	switch found := err == nil; {
	case !found && !errors.As(err, &gone):
	case found && c.entries[e] == absent:
		c.lost("entry %v was gone and is there again", e)
	case !found && c.entries[e] == present:
		c.lost("entry %v is gone: %v", e, err)
	case found:
		c.entries[e] = present
	default:
		c.entries[e] = absent
	}
}

// settle waits until every accepted call has had its effect, compares, and cleans up.
func (c *caller) settle() {
	c.Helper()
	for _, name := range clusterNames {
		described, err := c.EKS.DescribeCluster(c.ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
		var gone *types.ResourceNotFoundException
		isGone := errors.As(err, &gone)
		if err != nil && !isGone {
			c.Fatal(err)
		}
		remains := !isGone && described.Cluster.Status != types.ClusterStatusDeleting
		switch known := c.known(name); {
		case remains && (known == leaving || known == absent):
			c.lost("cluster %s was deleted and is %s", name, described.Cluster.Status)
		case !remains && known == present:
			c.lost("cluster %s is gone", name)
		}
		if !remains {
			c.awaitGone(name)
			continue
		}
		if _, err := c.AwaitActive(c.ctx, name); err != nil {
			c.Error(err)
		}
		c.describeCluster(name)
		for e := range c.entries {
			if e.cluster == name {
				c.describeEntry(e)
			}
		}
		c.must(c.Delete(c.ctx, name))
	}
	c.Logf("%d calls", c.calls)
	c.checkNoTrace()
}

func (c *caller) awaitGone(name string) {
	c.Helper()
	c.must(trial.Poll(c.ctx, func() (bool, error) {
		_, err := c.EKS.DescribeCluster(c.ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
		var gone *types.ResourceNotFoundException
		if errors.As(err, &gone) {
			return true, nil
		}
		return false, err
	}))
}

// checkNoTrace looks for processes, files and documents of clusters when there are none.
func (c *caller) checkNoTrace() {
	c.Helper()
	if running, err := supervise.Running(c.StateDir()); err != nil || len(running) != 1 || running[0] != "registry" {
		c.Errorf("still running: %v, %v, want the registry alone", running, err)
	}
	if left, err := os.ReadDir(filepath.Join(c.StateDir(), "clusters")); err != nil || len(left) != 0 {
		c.Errorf("files are left: %v, %v", left, err)
	}
	port, err := cluster.KeptPort(filepath.Join(c.StateDir(), "registry"), "etcd")
	c.must(err)
	etcd, err := cluster.DialEtcd(registryKeys(c.StateDir()), port, zap.NewNop())
	c.must(err)
	defer etcd.Close()
	left, err := etcd.Get(c.ctx, "/ovenbird/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	c.must(err)
	for _, kv := range left.Kvs {
		if string(kv.Key) == "/ovenbird/node-certificates-since" { // the registry's own, of no cluster
			continue
		}
		c.Errorf("the registry still holds %s", kv.Key)
	}
}
