package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// maxLog is the size at which a component's log makes room for a new one, at its next start.
const maxLog = 64 << 20

func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("set log aside: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return file, nil
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
