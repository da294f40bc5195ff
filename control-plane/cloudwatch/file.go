package cloudwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// chunk is how much of a file is read at a time: a line as long as the largest event.
const chunk = largestEvent

// File is a log in a file, a line an event. Its events have the time at which they were read. It may
// be rotated in either way: renamed, and begun anew; or copied to a file with ".1" at the end of
// its name, and emptied.
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
	begin := Position{Path: f.Path, Inode: now.Ino}
	switch {
	case after.Inode == 0: // never seen
		after = begin
	case after.Inode != now.Ino:
		return f.finish(f.renamed(after.Inode), after, begin)
	case now.Size < after.Offset:
		return f.finish(f.Path+".1", after, begin)
	}
	lines, offset, err := read(file, after.Offset, false)
	after.Offset = offset
	return lines, after, err
}

// finish reads the rest of what was rotated away, and then goes on at the beginning of what is there
// now. Of what is no longer there, a line says so.
func (f File) finish(old string, after, begin Position) ([]Line, Position, error) {
	file, was, err := open(old)
	if errors.Is(err, fs.ErrNotExist) || err == nil && was.Size < after.Offset {
		if file != nil {
			_ = file.Close()
		}
		return []Line{{time.Now(), lost}}, begin, nil
	}
	if err != nil {
		return nil, after, err
	}
	defer file.Close()
	lines, offset, err := read(file, after.Offset, true)
	after.Offset = offset
	if err == nil && offset == was.Size {
		after = begin
	}
	return lines, after, err
}

// lost stands for lines that could not be sent.
const lost = "ovenbird: what followed here was rotated away before it could be sent"

// renamed is where a file of the log's directory is now, "" if it is not there.
func (f File) renamed(inode uint64) string {
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil {
		return ""
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && status(info).Ino == inode {
			return filepath.Join(filepath.Dir(f.Path), entry.Name())
		}
	}
	return ""
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
