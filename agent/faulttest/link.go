package faulttest

import (
	"io"
	"net"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a network namespace. The thread that made it is locked to one goroutine, and
// what that does is done inside: sockets and processes stay where they were made.
type network struct{ inside chan func() }

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{inside: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for act := range n.inside {
			act()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { close(n.inside) })
	n.ip(t, "link", "set", "lo", "up")
	return n
}

// do runs act inside and waits for it.
func (n *network) do(act func()) {
	done := make(chan struct{})
	n.inside <- func() { defer close(done); act() }
	<-done
}

func (n *network) ip(t *testing.T, args ...string) {
	t.Helper()
	n.do(func() {
		if output, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Errorf("ip %v: %v: %s", args, err, output)
		}
	})
}

// State is what a Link does with connections.
type State int

// The states of a link.
const (
	Up      State = iota // brings them through
	Refused              // nobody listens
	Silent               // takes them and never answers
)

// Link is the way from the agent's network to one service outside of it.
type Link struct {
	t       *testing.T
	network *network
	address string // inside, "host:port"
	backend string // outside, "host:port"

	mu       sync.Mutex
	state    State
	delay    time.Duration
	listener net.Listener
	open     map[net.Conn]bool
}

// newLink makes a link that is Refused.
func newLink(t *testing.T, n *network, address, backend string) *Link {
	l := &Link{t: t, network: n, address: address, backend: backend, state: Refused, open: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Set(Refused) })
	return l
}

// Set changes the link and cuts what goes through it.
func (l *Link) Set(state State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	for conn := range l.open {
		conn.Close()
	}
	if state == Refused {
		if l.listener != nil {
			l.listener.Close()
			l.listener = nil
		}
		return
	}
	if l.listener != nil {
		return
	}
	var err error
	l.network.do(func() { l.listener, err = (&net.ListenConfig{}).Listen(l.t.Context(), "tcp", l.address) })
	if err != nil {
		l.t.Errorf("listen inside: %v", err)
		return
	}
	go l.serve(l.listener)
}

// Delay holds back every answer that comes in one piece for d.
func (l *Link) Delay(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

func (l *Link) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		l.open[conn] = true
		state := l.state
		l.mu.Unlock()
		if state == Silent {
			continue // until Set closes it
		}
		go l.bring(conn)
	}
}

// bring joins conn with a connection to the backend until either ends.
func (l *Link) bring(conn net.Conn) {
	defer func() {
		conn.Close()
		l.mu.Lock()
		delete(l.open, conn)
		l.mu.Unlock()
	}()
	backend, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(l.t.Context(), "tcp", l.backend)
	if err != nil {
		return // the backend has ended, as the test has
	}
	defer backend.Close()
	go func() {
		_, _ = io.Copy(backend, conn)
		backend.Close()
	}()
	piece := make([]byte, 32<<10)
	for {
		count, err := backend.Read(piece)
		if count > 0 {
			l.mu.Lock()
			delay := l.delay
			l.mu.Unlock()
			if delay > 0 {
				time.Sleep(delay) // the fault itself
			}
			if _, err := conn.Write(piece[:count]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
