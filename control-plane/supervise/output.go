package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

const (
	// maxLog is the size at which a component's log makes room for a new one.
	maxLog = 10 << 20
	// keptLogs is how many earlier logs stay beside it: NAME.log.1, the youngest, and so on.
	keptLogs = 3
)

// openLog opens a log for appending: only so does what its writer says after rotate begin
// at the start of the file again.
func openLog(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return file, nil
}

// rotate sets the content of a log aside when it has reached limit. The writer may be a
// process of an earlier service, which keeps its file open and knows nothing of this. So the
// file stays and its content is copied; what the writer says between the last read and the
// truncation, an instant, is lost.
func rotate(path string, limit int64, keep int) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() < limit) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	// Complete before any older one goes. A half copy of a killed service is written over.
	fresh := path + ".new"
	if err := copyFile(fresh, path); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	for n := keep; n > 1; n-- {
		if err := os.Rename(numbered(path, n-1), numbered(path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	if err := os.Rename(fresh, numbered(path, 1)); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

func numbered(path string, n int) string { return path + "." + strconv.Itoa(n) }

func copyFile(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	_, err = io.Copy(target, source)
	return err
}

// lastLine returns ": " and the last line of a log, which usually says why a program ended,
// or nothing.
func lastLine(path string) string {
	const longest = 400
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	tail := make([]byte, min(info.Size(), 4096))
	n, _ := file.ReadAt(tail, info.Size()-int64(len(tail)))
	lines := bytes.Split(bytes.TrimSpace(tail[:n]), []byte("\n"))
	line := strings.ToValidUTF8(string(lines[len(lines)-1]), "")
	if len(line) > longest {
		line = line[:longest] + "…"
	}
	if line == "" {
		return ""
	}
	return ": " + line
}
