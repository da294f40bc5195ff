package s3

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Store is the buckets of all regions and their objects, in a directory that is the store's
// alone: a directory a bucket, a file an object. It is safe for concurrent use.
type Store struct {
	Dir string
	// Region is where Make makes buckets.
	Region string
	Now    func() time.Time

	mu      sync.RWMutex
	buckets map[string]*bucket
}

// bucket is one that exists.
type bucket struct {
	Region  string    `json:"region"`
	Created time.Time `json:"created"`
	Token   string    `json:"token,omitempty"` // of Make

	objects map[string]object // by key
}

// uploads is the directory of objects that are on their way in. No bucket has such a name.
const uploads = ".uploads"

func (s *Store) record(name string) string  { return filepath.Join(s.Dir, name, "bucket.json") }
func (s *Store) objects(name string) string { return filepath.Join(s.Dir, name, "objects") }

// Open reads what is in the directory, and removes what was left half made.
func (s *Store) Open() error {
	s.buckets = map[string]*bucket{}
	if err := os.RemoveAll(filepath.Join(s.Dir, uploads)); err != nil {
		return fmt.Errorf("remove unfinished uploads: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(s.Dir, uploads), 0o700); err != nil {
		return fmt.Errorf("make the directory of buckets: %w", err)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("read the buckets: %w", err)
	}
	for _, e := range entries {
		if e.Name() == uploads {
			continue
		}
		b, err := s.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			err = os.RemoveAll(filepath.Join(s.Dir, e.Name()))
		}
		if err != nil {
			return fmt.Errorf("read the bucket %s: %w", e.Name(), err)
		}
		if b != nil {
			s.buckets[e.Name()] = b
		}
	}
	return nil
}

// read is the bucket of a directory; fs.ErrNotExist when its record is not there.
func (s *Store) read(name string) (*bucket, error) {
	data, err := os.ReadFile(s.record(name))
	if err != nil {
		return nil, err
	}
	b := &bucket{objects: map[string]object{}}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(s.objects(name))
	if err != nil {
		return nil, fmt.Errorf("list its objects: %v", err) //nolint:errorlint // a directory that is missing here is no half-made bucket
	}
	for _, f := range files {
		o, err := readObject(filepath.Join(s.objects(name), f.Name()))
		if err != nil {
			return nil, err
		}
		b.objects[o.Key] = o
	}
	return b, nil
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	// Reserved by S3 (user guide, "General purpose bucket naming rules").
	reservedPrefixes = []string{"xn--", "sthree-", "amzn-s3-demo-"}
	reservedSuffixes = []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"}
)

func validName(name string) bool {
	_, err := netip.ParseAddr(name)
	return bucketName.MatchString(name) && !strings.Contains(name, "..") && err != nil &&
		!slices.ContainsFunc(reservedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) &&
		!slices.ContainsFunc(reservedSuffixes, func(p string) bool { return strings.HasSuffix(name, p) })
}

// Make makes a bucket for a stack. The same token finds what it has made before.
func (s *Store) Make(name, token string) error {
	s.mu.RLock()
	b, ok := s.buckets[name]
	s.mu.RUnlock()
	if ok && token != "" && b.Token == token {
		return nil
	}
	return s.make(name, s.Region, token)
}

// Remove removes a bucket that is empty. One that is gone is no error.
func (s *Store) Remove(name string) error {
	if !s.Has(name) {
		return nil
	}
	return s.remove(name)
}

// Has tells whether there is such a bucket.
func (s *Store) Has(name string) bool {
	_, ok := s.find(name)
	return ok
}

// find is a bucket without its objects.
func (s *Store) find(name string) (bucket, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.buckets[name]
	if !ok {
		return bucket{}, false
	}
	return bucket{Region: b.Region, Created: b.Created}, true
}

// all is the buckets without their objects.
func (s *Store) all() map[string]bucket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := map[string]bucket{}
	for name, b := range s.buckets {
		list[name] = bucket{Region: b.Region, Created: b.Created}
	}
	return list
}

func (s *Store) make(name, region, token string) error {
	if !validName(name) {
		return invalidBucketName(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.buckets[name]; ok {
		return alreadyOwned(name)
	}
	b := &bucket{Region: region, Created: s.Now().UTC().Truncate(time.Second), Token: token, objects: map[string]object{}}
	if err := os.MkdirAll(s.objects(name), 0o700); err != nil {
		return fmt.Errorf("make the bucket %s: %w", name, err)
	}
	// With its record the bucket is there.
	if err := state.WriteJSON(s.record(name), b, 0o600); err != nil {
		return err
	}
	s.buckets[name] = b
	return nil
}

func (s *Store) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[name]
	switch {
	case !ok:
		return noSuchBucket(name)
	case len(b.objects) > 0:
		return notEmpty(name)
	}
	if err := os.Remove(s.record(name)); err != nil {
		return fmt.Errorf("remove the bucket %s: %w", name, err)
	}
	delete(s.buckets, name)
	if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
		return fmt.Errorf("remove the bucket %s: %w", name, err)
	}
	return nil
}

// put stores an object, whose content receive writes and which it describes then. It is there
// whole or not at all, and replaces one of its key.
func (s *Store) put(name string, receive func(io.Writer) (object, error)) (object, error) {
	file, err := os.CreateTemp(filepath.Join(s.Dir, uploads), "")
	if err != nil {
		return object{}, fmt.Errorf("begin an object: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // if it is still there
	defer file.Close()
	o, err := receive(file)
	if err != nil {
		return object{}, err
	}
	o.Modified = s.Now().UTC().Truncate(time.Second)
	if err := o.finish(file); err != nil {
		return object{}, fmt.Errorf("store an object: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[name]
	if !ok {
		return object{}, noSuchBucket(name)
	}
	if err := os.Rename(file.Name(), s.file(name, o.Key)); err != nil {
		return object{}, fmt.Errorf("store an object: %w", err)
	}
	b.objects[o.Key] = o
	return o, syncDirectory(s.objects(name))
}

func (s *Store) file(name, key string) string { return filepath.Join(s.objects(name), fileName(key)) }

// open is an object and its file, which begins with the object's content.
func (s *Store) open(name, key string) (object, *os.File, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.buckets[name]
	if !ok {
		return object{}, nil, noSuchBucket(name)
	}
	o, ok := b.objects[key]
	if !ok {
		return object{}, nil, noSuchKey(key)
	}
	file, err := os.Open(s.file(name, key))
	if err != nil {
		return object{}, nil, fmt.Errorf("read an object: %w", err)
	}
	return o, file, nil
}

// delete removes objects. One that is not there is no error.
func (s *Store) delete(name string, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[name]
	if !ok {
		return noSuchBucket(name)
	}
	for _, key := range keys {
		if _, ok := b.objects[key]; !ok {
			continue
		}
		if err := os.Remove(s.file(name, key)); err != nil {
			return fmt.Errorf("delete an object: %w", err)
		}
		delete(b.objects, key)
	}
	return syncDirectory(s.objects(name))
}

// list is a bucket's objects.
func (s *Store) list(name string) (map[string]object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.buckets[name]
	if !ok {
		return nil, noSuchBucket(name)
	}
	return maps.Clone(b.objects), nil
}
