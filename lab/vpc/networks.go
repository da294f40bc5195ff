package vpc

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Networks are the VPCs of a region and what is in them, recorded in one file that is
// written whole. They are safe for concurrent use.
type Networks struct {
	path string // empty: kept in memory

	mu     sync.Mutex // of changes
	follow func(*Record) error
	now    atomic.Pointer[Record]
}

// Open reads the record at path; where there is none yet, the networks are the plan's own.
// An empty path keeps no record.
func Open(plan Plan, path string) (*Networks, error) {
	n := &Networks{path: path}
	n.now.Store(own(plan))
	if path == "" {
		return n, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the VPCs: %w", err)
	}
	record := &Record{}
	if err := json.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("read the VPCs from %s: %w", path, err)
	}
	n.now.Store(record)
	return n, nil
}

// own are the VPC and the subnets that every lab has.
func own(plan Plan) *Record {
	id := suffix(plan.VPCID)
	r := &Record{
		VPCs: []VPC{{
			ID: plan.VPCID, CIDR: plan.CIDR, Association: "vpc-cidr-assoc-" + id, Own: true,
			DNSSupport: true, DNSHostnames: true, Tags: map[string]string{"Name": "lab"},
		}},
		Subnets: slices.Clone(plan.Subnets),
		RouteTables: []RouteTable{{
			ID: "rtb-" + id, VPCID: plan.VPCID, Associations: []Association{{ID: "rtbassoc-" + id, Main: true}},
		}},
	}
	for i := range r.Subnets {
		r.Subnets[i].Tags = map[string]string{"Name": "lab-" + r.Subnets[i].Zone}
	}
	return r
}

// Now is what there is at the moment. It is not to be changed.
func (n *Networks) Now() *Record { return n.now.Load() }

// Follow lets follow carry what there is, now and after each change. An error of follow
// undoes the change.
func (n *Networks) Follow(follow func(*Record) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.follow = follow
	return follow(n.Now())
}

// Change lets do change a copy of the record, which then is recorded, and carried. When do
// or one of these fails nothing has changed.
func (n *Networks) Change(do func(*Record) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.Now()
	data, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("change the VPCs: %w", err)
	}
	after := &Record{}
	if err := json.Unmarshal(data, after); err != nil {
		return fmt.Errorf("change the VPCs: %w", err)
	}
	if err := do(after); err != nil {
		return err
	}
	if err := n.save(after); err != nil {
		return err
	}
	n.now.Store(after)
	if n.follow == nil {
		return nil
	}
	if err := n.follow(after); err != nil {
		n.now.Store(before)
		return errors.Join(err, n.save(before), n.follow(before))
	}
	return nil
}

func (n *Networks) save(r *Record) error {
	if n.path == "" {
		return nil
	}
	return state.WriteJSON(n.path, r, 0o600)
}

// NewID is prefix, a dash, and 17 hexadecimal digits, as EC2's IDs are.
func NewID(prefix string) string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return prefix + "-0" + hex.EncodeToString(b)
}

// BridgeOf is the name of the bridge that carries a subnet that was created: an interface's
// has 15 bytes at most.
func BridgeOf(subnet string) string { return "subnet-" + subnet[len(subnet)-8:] }

// suffix is an ID without what says of what kind it is.
func suffix(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }
