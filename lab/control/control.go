// Package control is how commands on the host reach the lab's daemon for what AWS has no
// API for: the faults that calls are to meet, what is announced to instances, and the
// signals that are expected of them. It is a socket in the state directory that only the
// lab's owner may use.
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
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
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

// Announcer announces something to an instance; fleet.Fleet documents the method.
type Announcer interface {
	Notify(instance string, n fleet.Notice) error
}

// Announcement is a notice for an instance.
type Announcement struct {
	Instance string       `json:"instance"`
	Notice   fleet.Notice `json:"notice"`
}

// Handler answers the commands.
func Handler(faults *fault.Set, instances Announcer, signals *cloudformation.Signals) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /announcements", func(w http.ResponseWriter, r *http.Request) {
		var a Announcement
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&a)
		if err == nil {
			err = instances.Notify(a.Instance, a.Notice)
		}
		reply(w, a, err)
	})
	const resource = "/signals/{stack}/{resource}"
	mux.HandleFunc("PUT "+resource, func(w http.ResponseWriter, r *http.Request) {
		reply(w, []cloudformation.Signal{}, signals.Expect(r.PathValue("stack"), r.PathValue("resource")))
	})
	mux.HandleFunc("GET "+resource, func(w http.ResponseWriter, r *http.Request) {
		list, err := signals.Received(r.PathValue("stack"), r.PathValue("resource"))
		reply(w, list, err)
	})
	mux.HandleFunc("DELETE "+resource, func(w http.ResponseWriter, r *http.Request) {
		signals.Forget(r.PathValue("stack"), r.PathValue("resource"))
		reply(w, []cloudformation.Signal{}, nil)
	})
	state := func(w http.ResponseWriter) { reply(w, State{Faults: faults.List(), Calls: faults.Calls()}, nil) }
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
			reply(w, nil, err)
			return
		}
		state(w)
	})
	return mux
}

func reply(w http.ResponseWriter, value any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// Client sends commands to the socket at a path.
type Client string

// State asks how things are.
func (c Client) State(ctx context.Context) (state State, err error) {
	err = c.do(ctx, http.MethodGet, "/faults", nil, &state)
	return state, err
}

// Clear ends all faults.
func (c Client) Clear(ctx context.Context) (state State, err error) {
	err = c.do(ctx, http.MethodDelete, "/faults", nil, &state)
	return state, err
}

// Add puts a fault to work.
func (c Client) Add(ctx context.Context, f fault.Fault) (state State, err error) {
	err = c.do(ctx, http.MethodPost, "/faults", f, &state)
	return state, err
}

// Announce announces something to an instance, or withdraws it.
func (c Client) Announce(ctx context.Context, a Announcement) error {
	return c.do(ctx, http.MethodPost, "/announcements", a, &a)
}

// Expect makes a resource of a stack known, for instances to signal.
func (c Client) Expect(ctx context.Context, stack, resource string) error {
	return c.signals(ctx, http.MethodPut, stack, resource, new([]cloudformation.Signal))
}

// Signals is what a resource that is expected to be signalled was told so far.
func (c Client) Signals(ctx context.Context, stack, resource string) (list []cloudformation.Signal, err error) {
	err = c.signals(ctx, http.MethodGet, stack, resource, &list)
	return list, err
}

// Forget undoes Expect.
func (c Client) Forget(ctx context.Context, stack, resource string) error {
	return c.signals(ctx, http.MethodDelete, stack, resource, new([]cloudformation.Signal))
}

func (c Client) signals(ctx context.Context, method, stack, resource string, list *[]cloudformation.Signal) error {
	return c.do(ctx, method, "/signals/"+url.PathEscape(stack)+"/"+url.PathEscape(resource), nil, list)
}

// do sends value, unless that is nil, and decodes the answer into result.
func (c Client) do(ctx context.Context, method, path string, value, result any) error {
	var body []byte
	if value != nil {
		var err error
		if body, err = json.Marshal(value); err != nil {
			return fmt.Errorf("encode what the lab's daemon is asked: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the lab's daemon: %w", err)
	}
	transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(r)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return errors.New("the lab's daemon has no control socket: start it again with `ovenbird-lab up`")
	}
	if err != nil {
		return fmt.Errorf("ask the lab's daemon: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read what the lab's daemon says: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the lab's daemon refuses: %s", bytes.TrimSpace(text))
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("read what the lab's daemon says: %w", err)
	}
	return nil
}

func (c Client) dial(context.Context, string, string) (net.Conn, error) {
	dir, err := os.Open(filepath.Dir(string(c)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	return net.DialUnix("unix", nil, address(dir, string(c)))
}
