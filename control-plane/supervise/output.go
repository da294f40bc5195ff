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
// file stays and its content is copied, twice: what the writer said during the first copy is
// fetched right before the truncation. What it says between that and the truncation, an
// instant, is lost. What a service that is killed before the truncation had set aside is set
// aside once more by the next one.
func rotate(path string, limit int64, keep int) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() < limit) {
		return nil
	}
	var r rotation
	if err == nil {
		r, err = beginRotation(path)
	}
	if err == nil {
		err = r.end(keep)
	}
	if err != nil {
		_ = os.Remove(fresh(path)) // what may have filled the disk
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

// rotation is one under way: a log, and the copy of what it held so far.
type rotation struct{ log, aside *os.File }

// beginRotation makes a copy of a log, complete before any older one goes. A half copy of a
// killed service is written over.
func beginRotation(path string) (rotation, error) {
	log, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return rotation{}, err
	}
	aside, err := os.OpenFile(fresh(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return rotation{}, errors.Join(err, log.Close())
	}
	r := rotation{log, aside}
	if _, err := io.Copy(aside, log); err != nil {
		return rotation{}, errors.Join(err, r.close())
	}
	return r, nil
}

// end puts the copy in the place of the youngest of keep older logs, and empties the log.
func (r rotation) end(keep int) (err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	path := r.log.Name()
	for n := keep; n > 1; n-- {
		if err := os.Rename(numbered(path, n-1), numbered(path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(fresh(path), numbered(path, 1)); err != nil {
		return err
	}
	if _, err := io.Copy(r.aside, r.log); err != nil {
		return err
	}
	return r.log.Truncate(0)
}

func (r rotation) close() error { return errors.Join(r.log.Close(), r.aside.Close()) }

func fresh(path string) string { return path + ".new" }

func numbered(path string, n int) string { return path + "." + strconv.Itoa(n) }

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
