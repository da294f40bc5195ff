package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
	"github.com/ovenbird-dev/ovenbird/control-plane/trial"
)

const (
	// Kills come at random moments: while the service starts, and while it works.
	fewKills, manyKills = 10, 50
	longestLife         = 1500 * time.Millisecond
)

func TestNoAcceptedCallIsLostWhateverIsKilled(t *testing.T) {
	kills, seed := fewKills, uint64(time.Now().UnixNano())
	if os.Getenv("OVENBIRD_FULL") != "" {
		kills = manyKills
	}
	if given := os.Getenv("OVENBIRD_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("OVENBIRD_SEED=%d", seed)
	r := newRig(t)
	c := &caller{rig: r, rand: rand.New(rand.NewPCG(seed, 0)), entries: map[entry]state{}, clusters: map[string]state{}}
	chance := rand.New(rand.NewPCG(seed, 1))
	for range kills {
		r.liveAndDie(c, chance)
	}

	service := r.serve()
	c.settle()
	r.must(service.Signal(syscall.SIGTERM))
	r.run("stop", "--state-dir", r.StateDir())
	if running, err := supervise.Running(r.Dir); err != nil || len(running) != 0 {
		t.Errorf("still running: %v, %v", running, err)
	}
	for port := 6443; port < 6443+len(clusterNames); port++ {
		listener, err := net.Listen("tcp", net.JoinHostPort(r.Address.String(), strconv.Itoa(port)))
		if err != nil {
			t.Errorf("a port is still in use: %v", err)
			continue
		}
		_ = listener.Close()
	}
}

// liveAndDie runs a service for a moment, has it called, and kills it and perhaps a component.
func (r *rig) liveAndDie(c *caller, chance *rand.Rand) {
	r.Helper()
	life := time.Duration(chance.Int64N(int64(longestLife)))
	ctx, cancel := context.WithTimeout(r.ctx, life)
	defer cancel()
	// When its life ends before it is ready, Serve kills the service.
	service, err := r.Serve(ctx, r.log)
	if err != nil {
		if ctx.Err() == nil {
			r.Fatal(err)
		}
		return
	}
	r.Cleanup(func() { _ = service.Signal(syscall.SIGKILL) })
	working, enough := context.WithTimeout(r.ctx, life)
	defer enough()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for working.Err() == nil {
			c.call()
		}
	}()
	if chance.IntN(2) == 0 {
		r.killAComponent(chance)
	}
	<-working.Done()
	_ = service.Signal(syscall.SIGKILL)
	<-done
}

// killAComponent kills one of the processes that are recorded. A record may go while it is
// read, or outlive its process.
func (r *rig) killAComponent(chance *rand.Rand) {
	r.Helper()
	records, _ := filepath.Glob(filepath.Join(r.StateDir(), "registry", "run", "*.pid"))
	clusters, _ := filepath.Glob(filepath.Join(r.StateDir(), "clusters", "*", "run", "*.pid"))
	records = append(records, clusters...)
	if len(records) == 0 {
		return
	}
	data, err := os.ReadFile(records[chance.IntN(len(records))])
	if err != nil {
		return
	}
	var recorded process
	r.must(json.Unmarshal(data, &recorded))
	environ, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(recorded.PID), "environ"))
	if bytes.Contains(environ, []byte(r.StateDir())) {
		_ = syscall.Kill(recorded.PID, syscall.SIGKILL)
	}
}

// state is what a caller knows of a thing from the answers it got.
type state int

const (
	unknown state = iota // a call was made and not answered
	absent
	present
	leaving // a cluster whose deletion was accepted
)

type entry struct{ cluster, principal string }

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
	calls    int
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

// forget says that nothing is known of a cluster's entries.
func (c *caller) forget(name string) {
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

// describeCluster finds out about a cluster whose creation or deletion was not answered.
func (c *caller) describeCluster(name string) {
	answer, err := c.EKS.DescribeCluster(c.ctx, &eks.DescribeClusterInput{Name: aws.String(name)}, once)
	switch {
	case err != nil:
	case answer.Cluster.Status == types.ClusterStatusDeleting:
		c.clusters[name] = leaving
	default:
		c.clusters[name] = present
	}
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
		for e := range c.entries {
			if e.cluster == name {
				c.describeEntry(e)
			}
		}
		c.must(c.Delete(c.ctx, name))
	}
	c.Logf("%d calls; %v; %v", c.calls, c.clusters, c.entries)
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
		c.Errorf("the registry still holds %s", kv.Key)
	}
}
