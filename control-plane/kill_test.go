package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
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
	c := newCaller(r, seed)
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
