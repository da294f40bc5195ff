package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Place is where archives are kept, by names such as "blue/20261127T010203.000Z.ovenbird".
type Place interface {
	// Put stores the file at source whole or not at all.
	Put(ctx context.Context, name, source string) error
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	List(ctx context.Context) ([]string, error)
	Delete(ctx context.Context, name string) error
}

const (
	suffix     = ".ovenbird"
	timeFormat = "20060102T150405.000Z"
)

func archiveName(cluster string, at time.Time) string {
	return path.Join(cluster, at.UTC().Format(timeFormat)+suffix)
}

// parseName takes an archive's name apart; ok tells whether it is one.
func parseName(name string) (cluster string, at time.Time, ok bool) {
	cluster, base := path.Split(name)
	cluster = strings.TrimSuffix(cluster, "/")
	text, ok := strings.CutSuffix(base, suffix)
	if !ok || !registry.ValidName(cluster) {
		return "", time.Time{}, false
	}
	at, err := time.Parse(timeFormat, text)
	return cluster, at, err == nil
}

// Archives lists the archives of a place by cluster, the newest last.
func Archives(ctx context.Context, place Place) (map[string][]string, error) {
	names, err := place.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list archives: %w", err)
	}
	archives := map[string][]string{}
	for _, name := range names {
		if cluster, _, ok := parseName(name); ok {
			archives[cluster] = append(archives[cluster], name)
		}
	}
	for _, list := range archives {
		slices.Sort(list) // equal prefixes, then times of equal length
	}
	return archives, nil
}

// OpenPlace returns the place that where names: a directory, or s3://bucket/prefix. Only a
// directory that is its owner's alone may hold archives that are not encrypted.
func OpenPlace(where string, key *Key, config func() (aws.Config, error)) (Place, error) {
	rest, isS3 := strings.CutPrefix(where, "s3://")
	if !isS3 {
		return openDirectory(where, key != nil)
	}
	if key == nil {
		return nil, errors.New("archives hold the keys of clusters, and go to S3 encrypted only: give --backup-key-file")
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	if bucket == "" {
		return nil, fmt.Errorf("%q: want s3://bucket/prefix", where)
	}
	loaded, err := config()
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		// What stands in for S3 seldom has a host name for each bucket.
		o.UsePathStyle = o.BaseEndpoint != nil
	})
	return bucketPlace{client, bucket, strings.Trim(prefix, "/")}, nil
}

// directory is a Place on this machine.
type directory struct{ path string }

func openDirectory(where string, encrypted bool) (Place, error) {
	if err := os.MkdirAll(where, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for backups: %w", err)
	}
	info, err := os.Stat(where)
	if err != nil {
		return nil, fmt.Errorf("look at directory for backups: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", where)
	}
	if !encrypted && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("archives hold the keys of clusters, and others may enter %s: chmod 700, or give --backup-key-file", where)
	}
	return directory{where}, nil
}

// part marks a file that is being written.
const part = ".part"

func (d directory) Put(_ context.Context, name, source string) error {
	target := filepath.Join(d.path, name)
	d.clean(filepath.Dir(target))
	file, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	defer file.Close()
	if err := copyTo(target+part, file); err != nil {
		return fmt.Errorf("store %s: %w", name, errors.Join(err, os.Remove(target+part)))
	}
	if err := os.Rename(target+part, target); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return syncDirectory(filepath.Dir(target))
}

// clean removes what killed processes left half written.
func (d directory) clean(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, "*"+part))
	for _, file := range left {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > takeTimeout {
			_ = os.Remove(file)
		}
	}
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("make rename durable: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("make rename durable: %w", err)
	}
	return nil
}

func (d directory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(d.path, name))
}

func (d directory) List(context.Context) ([]string, error) {
	var names []string
	err := filepath.WalkDir(d.path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(d.path, file)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	return names, err
}

func (d directory) Delete(_ context.Context, name string) error {
	return os.Remove(filepath.Join(d.path, name))
}
