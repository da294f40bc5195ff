package cloudwatch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// mostEntries bounds how many entries of the journal are read at a time.
const mostEntries = 1000

// Journal is what a unit of systemd's says in the journal, since the machine has started.
type Journal struct {
	Unit    string
	Program string // journalctl
}

// entry is one of the journal, as journalctl writes it (Journal JSON Format).
type entry struct {
	Cursor  string          `json:"__CURSOR"`
	Time    string          `json:"__REALTIME_TIMESTAMP"` // µs since 1970
	Message json.RawMessage `json:"MESSAGE"`              // text, or bytes if it is not UTF-8
}

// Read implements Source.
func (j Journal) Read(ctx context.Context, after Position) ([]Line, Position, error) {
	args := []string{"--unit", j.Unit, "--output", "json", "--output-fields", "MESSAGE", "--all", "--quiet", "--no-pager"}
	if after.Cursor == "" {
		args = append(args, "--boot")
	} else {
		args = append(args, "--after-cursor", after.Cursor)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, j.Program, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, after, fmt.Errorf("read the journal: %w", err)
	}
	lines, cursor, err := entries(out)
	full := len(lines) == mostEntries
	if full || err != nil {
		cancel() // the rest is for the next time
	}
	if ended := cmd.Wait(); err == nil && ended != nil && !full {
		err = fmt.Errorf("%w %s", ended, strings.TrimSpace(said.String()))
	}
	if err != nil {
		return nil, after, fmt.Errorf("read the journal of %s: %w", j.Unit, err)
	}
	if cursor != "" {
		after.Cursor = cursor
	}
	return lines, after, nil
}

// entries reads until there are many or no more, and returns the last one's cursor.
func entries(out io.Reader) (lines []Line, cursor string, err error) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 4<<20) // bytes that are no text take four times their size
	for len(lines) < mostEntries && scanner.Scan() {
		var e entry
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			return nil, "", fmt.Errorf("decode an entry: %w", err)
		}
		micros, err := strconv.ParseInt(e.Time, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("decode an entry: __REALTIME_TIMESTAMP: %w", err)
		}
		text, err := e.text()
		if err != nil {
			return nil, "", fmt.Errorf("decode an entry: MESSAGE: %w", err)
		}
		lines, cursor = append(lines, Line{time.UnixMicro(micros), text}), e.Cursor
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, "", fmt.Errorf("an entry is longer than %d bytes", 4<<20)
	} else if err != nil {
		return nil, "", err
	}
	return lines, cursor, nil
}

func (e entry) text() (string, error) {
	var text string
	if json.Unmarshal(e.Message, &text) == nil {
		return text, nil
	}
	var numbers []int // a []byte would be base64
	if err := json.Unmarshal(e.Message, &numbers); err != nil {
		return "", err
	}
	data := make([]byte, len(numbers))
	for i, n := range numbers {
		data[i] = byte(n)
	}
	return string(data), nil
}
