// Package catalog is the snapshots and AMIs of the lab's account, in every region. It
// records each change before it is told of, in one file that is written whole, and keeps
// each snapshot's data as a sparse disk beside it. What AWS does a moment later happens a
// moment later here too: a snapshot is not found right after it was started, and is
// completed, as an image becomes available, only after a while.
//
// A process that uses a catalog may be killed at any time; the next one carries on.
package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Errors that callers tell apart.
var (
	ErrNotFound    = errors.New("it does not exist")
	ErrNotPending  = errors.New("the snapshot is not pending")
	ErrNotReady    = errors.New("it is still pending")
	ErrTokenReused = errors.New("the client token was used for another request")
	ErrBlockIndex  = errors.New("the block lies outside the volume")
	ErrVolumeSize  = errors.New("the volume is smaller than the parent snapshot's")
	ErrQuota       = errors.New("too many snapshots are pending")
	ErrTooManyTags = errors.New("too many tags")
)

// maxTags is EC2's limit on a resource's tags.
const maxTags = 50

// Delays are how long AWS takes to let a change be seen.
type Delays struct {
	// Appear is how long a new snapshot is not found yet.
	Appear time.Duration
	// Settle is how long a snapshot takes to be completed, and an image to be available.
	Settle time.Duration
}

// Options are a catalog's surroundings.
type Options struct {
	Dir     string   // of the record and the snapshots' data; made if need be
	Account string   // that owns everything
	Regions []string // the first is where instances run
	Delays  Delays
	Now     func() time.Time
	Logger  *zap.Logger
	// Baked are images that did not come from a snapshot, all in the first region; nil:
	// none.
	Baked func() []Image
}

// Catalog is safe for concurrent use.
type Catalog struct {
	Options
	boot   string // of this machine, as the kernel names it
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	record record
	open   map[string]*upload // of the snapshots that take blocks
}

// record is what is on disk.
type record struct {
	Snapshots []Snapshot `json:"snapshots"`
	Images    []Image    `json:"images"`
	// Sharing is the regions where images may be made public.
	Sharing []string `json:"sharing,omitempty"`
}

// Open reads the catalog and carries on what an earlier process left undone.
func Open(o Options) (*Catalog, error) {
	c := &Catalog{Options: o, open: map[string]*upload{}}
	if err := os.MkdirAll(c.snapshots(), 0o755); err != nil { //nolint:gosec // as the rest of the state directory
		return nil, fmt.Errorf("make the directory of snapshots: %w", err)
	}
	data, err := os.ReadFile(c.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the snapshots and images: %w", err)
	default:
		if err := json.Unmarshal(data, &c.record); err != nil {
			return nil, fmt.Errorf("read the snapshots and images from %s: %w", c.file(), err)
		}
	}
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		c.boot = strings.TrimSpace(string(boot))
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.recover(); err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// Close stops what happens in the background; the next Open carries on.
func (c *Catalog) Close() {
	c.cancel()
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, u := range c.open {
		u.close()
		delete(c.open, id)
	}
}

func (c *Catalog) file() string              { return filepath.Join(c.Dir, "catalog.json") }
func (c *Catalog) snapshots() string         { return filepath.Join(c.Dir, "snapshots") }
func (c *Catalog) snapshot(id string) string { return filepath.Join(c.snapshots(), id) }

// HasRegion tells whether the account has the region.
func (c *Catalog) HasRegion(name string) bool { return slices.Contains(c.Regions, name) }

// save writes the record. The caller holds mu.
func (c *Catalog) save() error {
	return state.WriteJSON(c.file(), c.record, 0o600)
}

// change alters the record under the lock and saves it, or leaves it as it was.
func (c *Catalog) change(alter func(*record) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.record
	c.record.Snapshots, c.record.Images = slices.Clone(before.Snapshots), slices.Clone(before.Images)
	err := alter(&c.record)
	if err == nil {
		err = c.save()
	}
	if err != nil {
		c.record = before
	}
	return err
}

// newID is prefix and 16 random hexadecimal digits.
func newID(prefix string) string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return prefix + hex.EncodeToString(b)
}
