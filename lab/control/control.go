// Package control is how commands on the host reach the lab's daemon for what AWS has no
// API for: the faults that calls are to meet. It is a socket in the state directory that
// only the lab's owner may use.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/fault"
)

// timeout bounds one exchange with the daemon.
const timeout = 10 * time.Second

// maxBody bounds what either side sends.
const maxBody = 1 << 20

// State is what the daemon tells.
type State struct {
	Faults []fault.Fault  `json:"faults"` // that may still strike
	Calls  map[string]int `json:"calls"`  // of each action since the daemon was started
}

// Listen opens the socket at path, in the place of one that an earlier daemon left.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the control socket of an earlier daemon: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	defer func() { _ = dir.Close() }()
	listener, err := net.ListenUnix("unix", address(dir, path))
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	listener.SetUnlinkOnClose(false) // its name holds for as long as dir is open
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("protect the control socket: %w", err)
	}
	return listener, nil
}

// address reaches the socket through its open directory: a socket's own path must fit into
// 108 bytes.
func address(dir *os.File, path string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))}
}

// Handler answers the commands.
func Handler(faults *fault.Set) http.Handler {
	mux := http.NewServeMux()
	state := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(State{Faults: faults.List(), Calls: faults.Calls()})
	}
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { state(w) })
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		faults.Clear()
		state(w)
	})
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var f fault.Fault
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&f)
		if err == nil {
			err = faults.Add(f)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		state(w)
	})
	return mux
}

// Client sends commands to the socket at a path.
type Client string

// State asks how things are.
func (c Client) State(ctx context.Context) (State, error) { return c.do(ctx, http.MethodGet, nil) }

// Clear ends all faults.
func (c Client) Clear(ctx context.Context) (State, error) { return c.do(ctx, http.MethodDelete, nil) }

// Add puts a fault to work.
func (c Client) Add(ctx context.Context, f fault.Fault) (State, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return State{}, fmt.Errorf("encode the fault: %w", err)
	}
	return c.do(ctx, http.MethodPost, body)
}

func (c Client) do(ctx context.Context, method string, body []byte) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://lab/faults", bytes.NewReader(body))
	if err != nil {
		return State{}, fmt.Errorf("ask the lab's daemon: %w", err)
	}
	transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(r)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return State{}, errors.New("the lab's daemon has no control socket: start it again with `ovenbird-lab up`")
	}
	if err != nil {
		return State{}, fmt.Errorf("ask the lab's daemon: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return State{}, fmt.Errorf("read what the lab's daemon says: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return State{}, fmt.Errorf("the lab's daemon refuses: %s", bytes.TrimSpace(text))
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		return State{}, fmt.Errorf("read what the lab's daemon says: %w", err)
	}
	return state, nil
}

func (c Client) dial(context.Context, string, string) (net.Conn, error) {
	dir, err := os.Open(filepath.Dir(string(c)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	return net.DialUnix("unix", nil, address(dir, string(c)))
}
