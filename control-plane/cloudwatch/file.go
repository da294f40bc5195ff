package cloudwatch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// chunk is how much of a file is read at a time: a line as long as the largest event.
const chunk = largestEvent

// File is a log in a file, a line an event. Its events have the time at which they were read. It may
// be rotated in either way: renamed, and begun anew; or copied and emptied. What was rotated away is
// called as the log with a number at the end, or with a time before the extension.
type File struct{ Path string }

// Read implements Source. A line of more than a chunk comes in pieces.
func (f File) Read(_ context.Context, after Position) ([]Line, Position, error) {
	file, now, err := open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, after, nil
	}
	if err != nil {
		return nil, after, err
	}
	defer file.Close()
	begin := Position{Path: f.Path, Inode: now.Ino, Seen: now.Mtim.Nano()}
	if after.Inode == 0 { // never seen
		after = begin
	}
	if after.Inode != now.Ino || now.Size < after.Offset {
		return f.finish(after, begin)
	}
	lines, offset, err := read(file, after.Offset, false)
	if offset != after.Offset {
		after.Offset, after.Seen = offset, now.Mtim.Nano()
	}
	return lines, after, err
}

// lost stands for lines that could not be sent.
const lost = "ovenbird: what followed here was rotated away before it could be sent"

// finish reads on in what was rotated away, one file after the other, and then goes on at the
// beginning of what is there now. Of what is no longer there, a line says so.
func (f File) finish(after, begin Position) ([]Line, Position, error) {
	old, err := f.rotated(begin.Inode)
	if err != nil {
		return nil, after, err
	}
	// A copy of the log is another file. It is the first one since the log was seen.
	next := slices.IndexFunc(old, func(r rotated) bool { return r.Mtim.Nano() > after.Seen })
	at := slices.IndexFunc(old, func(r rotated) bool { return r.Ino == after.Inode })
	if after.Inode == begin.Inode {
		at = next
	}
	if at < 0 || old[at].Size < after.Offset {
		return []Line{{time.Now(), lost}}, position(f.Path, old, next, begin), nil
	}
	file, is, err := open(old[at].path)
	if err != nil {
		return nil, after, err
	}
	defer file.Close()
	if is.Ino != old[at].Ino {
		return nil, after, errors.New("a log is being rotated just now")
	}
	lines, offset, err := read(file, after.Offset, true)
	if err != nil {
		return nil, after, err
	}
	if offset == is.Size {
		return lines, position(f.Path, old, at+1, begin), nil
	}
	return lines, Position{Path: f.Path, Inode: is.Ino, Offset: offset, Seen: is.Mtim.Nano()}, nil
}

// position is the beginning of the file at an index, or of what is there now if none is.
func position(path string, old []rotated, at int, begin Position) Position {
	if at < 0 || at >= len(old) {
		return begin
	}
	return Position{Path: path, Inode: old[at].Ino, Seen: old[at].Mtim.Nano()}
}

// rotated is a file that was the log, or is a copy of it.
type rotated struct {
	path string
	*syscall.Stat_t
}

// rotated are the files that were rotated away, the oldest first.
func (f File) rotated(current uint64) ([]rotated, error) {
	dir, base := filepath.Split(f.Path)
	ext := filepath.Ext(base)
	name := regexp.MustCompile("^(" + regexp.QuoteMeta(base) + `\.[0-9]+|` + regexp.QuoteMeta(strings.TrimSuffix(base, ext)) + `-[0-9]{4}-[0-9]{2}-[0-9]{2}T.*` + regexp.QuoteMeta(ext) + ")$")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var old []rotated
	for _, entry := range entries {
		if !name.MatchString(entry.Name()) {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s := status(info); s.Ino != current {
			old = append(old, rotated{filepath.Join(dir, entry.Name()), s})
		}
	}
	slices.SortFunc(old, func(a, b rotated) int { return cmp.Compare(a.Mtim.Nano(), b.Mtim.Nano()) })
	return old, nil
}

// read returns the lines of a file that begin at an offset, and where the next one begins. The last
// line counts without its end only in a file that is whole, and one that fills a chunk.
func read(file *os.File, offset int64, whole bool) ([]Line, int64, error) {
	data := make([]byte, chunk)
	n, err := file.ReadAt(data, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, offset, fmt.Errorf("read log: %w", err)
	}
	data = data[:n]
	end := bytes.LastIndexByte(data, '\n') + 1
	if end == 0 && n == chunk || whole && n < chunk {
		end = n
	}
	var lines []Line
	now := time.Now()
	for text := range bytes.Lines(data[:end]) {
		lines = append(lines, Line{now, string(bytes.TrimRight(text, "\r\n"))})
	}
	return lines, offset + int64(end), nil
}

func open(path string) (*os.File, *syscall.Stat_t, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, status(info), nil
}

func status(info fs.FileInfo) *syscall.Stat_t {
	return info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // on Linux it is
}
