package ssm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// imageType is the data type of parameters that hold the ID of an image.
const imageType = "aws:ec2:image"

// Errors that the service words.
var (
	errNotFound = errors.New("no such parameter")
	errExists   = errors.New("the parameter exists")
	errType     = errors.New("the parameter is of another type")
)

// Parameter is one that exists, or is about to.
type Parameter struct {
	Region      string            `json:"region"`
	Name        string            `json:"name"`
	Type        string            `json:"type"`
	DataType    string            `json:"dataType"`
	Description string            `json:"description,omitempty"`
	Value       string            `json:"value"`
	Version     int               `json:"version"`
	Modified    time.Time         `json:"modified"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Checked is when it shows whether the image that the value names was Found; until then
	// the parameter is as it was before. Zero: it needs no check, or has passed. What becomes
	// of the image between the two is nobody's concern: AWS may have looked already.
	Checked time.Time `json:"checked,omitzero"`
	Found   bool      `json:"found,omitempty"`
}

// Store is the parameters of all regions, in one file that is written whole. It is safe
// for concurrent use.
type Store struct {
	Path    string
	Catalog *catalog.Catalog // where images are looked up
	Now     func() time.Time

	mu         sync.Mutex
	parameters []Parameter
}

// Open reads what is in the file.
func (s *Store) Open() error {
	data, err := os.ReadFile(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the parameters: %w", err)
	}
	if err := json.Unmarshal(data, &s.parameters); err != nil {
		return fmt.Errorf("read the parameters from %s: %w", s.Path, err)
	}
	return nil
}

// change alters the parameters and saves them, or leaves them as they were.
func (s *Store) change(alter func([]Parameter) ([]Parameter, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := alter(s.settle())
	if err == nil {
		err = state.WriteJSON(s.Path, now, 0o600)
	}
	if err == nil {
		s.parameters = now
	}
	return err
}

// settle is the parameters as they are by now: those whose image was found replace the ones
// before them, and the others vanish. As on AWS nobody is told.
func (s *Store) settle() []Parameter {
	var settled []Parameter
	for _, p := range s.parameters {
		if !p.Checked.IsZero() && !s.Now().Before(p.Checked) {
			if !p.Found {
				continue
			}
			p.Checked = time.Time{}
			settled = slices.DeleteFunc(settled, func(old Parameter) bool { return old.Region == p.Region && old.Name == p.Name && old.Checked.IsZero() })
		}
		settled = append(settled, p)
	}
	return settled
}

// find is the position of a parameter that can be seen.
func find(list []Parameter, region, name string) int {
	return slices.IndexFunc(list, func(p Parameter) bool { return p.Region == region && p.Name == name && p.Checked.IsZero() })
}

// put makes a parameter, or with overwrite another version of it, and answers the version.
func (s *Store) put(p Parameter, overwrite bool) (version int, err error) {
	err = s.change(func(list []Parameter) ([]Parameter, error) {
		p.Version, p.Modified = 1, s.Now().UTC()
		i := find(list, p.Region, p.Name)
		if i >= 0 {
			was := list[i]
			switch {
			case !overwrite:
				return nil, errExists
			case p.Type != "" && p.Type != was.Type:
				return nil, errType
			}
			p.Type, p.Tags, p.Version = was.Type, was.Tags, was.Version+1
		}
		version = p.Version
		if p.DataType == imageType {
			image, ok := s.Catalog.Image(p.Region, p.Value)
			p.Checked, p.Found = p.Modified.Add(s.Catalog.Delays.Settle), ok && image.Available(s.Now())
			return append(slices.Clone(list), p), nil
		}
		if i >= 0 {
			list = slices.Delete(slices.Clone(list), i, i+1)
		}
		return append(list, p), nil
	})
	return version, err
}

// Get finds a parameter.
func (s *Store) Get(region, name string) (Parameter, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.settle()
	if i := find(list, region, name); i >= 0 {
		return list[i], true
	}
	return Parameter{}, false
}

func (s *Store) remove(region, name string) error {
	return s.change(func(list []Parameter) ([]Parameter, error) {
		i := find(list, region, name)
		if i < 0 {
			return nil, errNotFound
		}
		return slices.DeleteFunc(slices.Clone(list), func(p Parameter) bool { return p.Region == region && p.Name == name }), nil
	})
}

func (s *Store) tag(region, name string, set map[string]string, remove []string) error {
	return s.change(func(list []Parameter) ([]Parameter, error) {
		list = slices.Clone(list)
		i := find(list, region, name)
		if i < 0 {
			return nil, errNotFound
		}
		tags := map[string]string{}
		maps.Copy(tags, list[i].Tags)
		maps.Copy(tags, set)
		for _, key := range remove {
			delete(tags, key)
		}
		list[i].Tags = tags
		return list, nil
	})
}
