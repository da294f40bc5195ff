package iam

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	// maxPolicy bounds the policy file, in bytes.
	maxPolicy = 1 << 20
	// policyLook is how often a call makes the service look whether the file has changed.
	policyLook = time.Second
)

// Denied is a call that nothing allows, in AWS's words.
type Denied struct {
	Principal string
	Request   Request
}

func (d *Denied) Error() string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s", d.Principal, d.Request.Operation, d.Request.Resource)
}

// Authorizer decides what callers of the EKS API may do: what the policy allows, and beside it
// that the role of a cluster's nodes may describe that cluster, so that a node can find it.
type Authorizer struct {
	Policy *PolicyFile
	// Entries finds access entries; Principals does.
	Entries interface {
		GetAccessEntry(ctx context.Context, cluster, principalARN string) (registry.AccessEntry, error)
	}
}

// Authorize returns nil when the caller may, *Denied when not.
func (a Authorizer) Authorize(ctx context.Context, c Caller, r Request) error {
	if a.Policy.Current().Allows(c, r) {
		return nil
	}
	if c.Session != "" && r.Operation == "eks:DescribeCluster" && r.Cluster != "" {
		entry, err := a.Entries.GetAccessEntry(ctx, r.Cluster, c.CanonicalARN)
		switch {
		case err == nil && (entry.Type == registry.TypeEC2Linux || entry.Type == registry.TypeEC2):
			return nil
		case err != nil && !errors.Is(err, registry.ErrNotFound):
			return err
		}
	}
	return &Denied{Principal: c.ARN, Request: r}
}

// PolicyFile is a policy in a file that may change at any time. A change that cannot be
// read leaves the policy as it was, and is an error in the log. It is safe for concurrent use.
type PolicyFile struct {
	path string
	log  *zap.Logger
	now  func() time.Time

	mu      sync.Mutex
	policy  Policy
	version string // of the file, good or bad, that was read last
	looked  time.Time
}

// OpenPolicy reads the policy in path. A nil clock is time.Now.
func OpenPolicy(path string, log *zap.Logger, now func() time.Time) (*PolicyFile, error) {
	if now == nil {
		now = time.Now
	}
	f := &PolicyFile{path: path, log: log, now: now, looked: now()}
	var err error
	f.version = version(path)
	f.policy, err = readPolicy(path)
	return f, err
}

// Current is the policy as of a second ago at most.
func (f *PolicyFile) Current() Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= policyLook {
		f.looked = now
		f.reload()
	}
	return f.policy
}

func (f *PolicyFile) reload() {
	// The version comes first: a change in between is read now and looked at once more.
	found := version(f.path)
	if found == f.version {
		return
	}
	policy, err := readPolicy(f.path)
	// What could not be read although it is there, for want of file descriptors perhaps, is
	// tried again at the next look.
	if unread := (*fs.PathError)(nil); found == "" || !errors.As(err, &unread) {
		f.version = found
	}
	if err != nil {
		f.log.Error("the changed policy is not used: the one before stays in force", zap.Error(err))
		return
	}
	f.policy = policy
	f.log.Info("the changed policy is in force", zap.String("file", f.path), zap.Int("statements", len(policy.statements)))
}

// version changes with the file; empty: it cannot be found.
func version(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	inode := uint64(0)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return fmt.Sprintf("%d %d %v %d", info.ModTime().UnixNano(), info.Size(), info.Mode(), inode)
}

func readPolicy(path string) (Policy, error) {
	file, err := os.Open(path)
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return Policy{}, fmt.Errorf("read policy: %s has mode %04o and may be changed by others: run chmod go-w %s", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxPolicy+1))
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	if len(data) > maxPolicy {
		return Policy{}, fmt.Errorf("read policy: %s is larger than %d bytes", path, maxPolicy)
	}
	policy, err := ParsePolicy(data)
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %s: %w", path, err)
	}
	return policy, nil
}
