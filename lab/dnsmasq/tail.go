package dnsmasq

import (
	"bytes"
	"strings"
	"sync"
)

// banner is in the line that dnsmasq writes when its sockets are open.
const banner = ": started, version "

// tail keeps the last line that was written to it, and tells when the banner has been.
type tail struct {
	started func() // called once

	mu   sync.Mutex
	text []byte
	once sync.Once
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.text = append(t.text, p...)
	begun := bytes.Contains(t.text, []byte(banner))
	if over := len(t.text) - 1024; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	t.mu.Unlock()
	if begun {
		t.once.Do(t.started)
	}
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
