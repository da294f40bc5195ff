package ec2

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Inventory is what the account has of EC2 besides instances, images and snapshots: launch
// templates, security groups, volumes, network interfaces and Elastic IP addresses. It is
// recorded at Path before a change is told, and is safe for concurrent use.
type Inventory struct {
	Path string // empty: it is kept in memory only

	mu      sync.Mutex
	regions map[string]*contents
}

// contents is the inventory of a region, each list in the order of creation.
type contents struct {
	Templates  []*template         `json:"templates,omitempty"`
	Groups     []*securityGroup    `json:"groups,omitempty"`
	Volumes    []*volume           `json:"volumes,omitempty"`
	Addresses  []*address          `json:"addresses,omitempty"`
	Interfaces []*elasticInterface `json:"interfaces,omitempty"`
}

// Open reads the record.
func (v *Inventory) Open() error {
	data, err := os.ReadFile(v.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read EC2's inventory: %w", err)
	}
	if err := json.Unmarshal(data, &v.regions); err != nil {
		return fmt.Errorf("read EC2's inventory from %s: %w", v.Path, err)
	}
	return nil
}

// change changes what a region has, and records it. When do or the record fails nothing has
// changed.
func (v *Inventory) change(region string, do func(*contents) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	before, err := json.Marshal(v.regions)
	if err != nil {
		return fmt.Errorf("change EC2's inventory: %w", err)
	}
	err = do(v.of(region))
	if err == nil && v.Path != "" {
		if after, _ := json.Marshal(v.regions); string(after) != string(before) {
			err = state.WriteJSON(v.Path, v.regions, 0o600) // user-data may hold secrets
		}
	}
	if err == nil {
		return nil
	}
	var old map[string]*contents
	if undo := json.Unmarshal(before, &old); undo != nil {
		return errors.Join(err, undo)
	}
	v.regions = old
	return err
}

func (v *Inventory) of(region string) *contents {
	if v.regions == nil {
		v.regions = map[string]*contents{}
	}
	if v.regions[region] == nil {
		v.regions[region] = &contents{}
	}
	return v.regions[region]
}

// change changes the inventory of the service's region. What stands in it follows the VPCs
// and the instances first.
func (s Service) change(do func(*contents) error) error {
	return s.Inventory.change(s.Plan.Region, func(c *contents) error {
		s.follow(c)
		return do(c)
	})
}

// follow gives each VPC its default security group, and takes away what went with a VPC or
// with an instance.
func (s Service) follow(c *contents) {
	c.keepDefaultGroups(s.Plan.Now().VPCs)
	c.keepAddresses(func(instance string) bool {
		i, err := s.instanceFor(instance)
		return err == nil && i.HasAddress()
	})
	c.keepInterfaces(s.Fleet.Instances())
}

func (s Service) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

// newID is prefix and 16 random hexadecimal digits.
func newID(prefix string) string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return prefix + hex.EncodeToString(b)
}
