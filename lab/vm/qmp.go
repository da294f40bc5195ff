package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// qmpTimeout bounds one exchange with QEMU. It answers in milliseconds unless the machine
// is starved.
const qmpTimeout = 30 * time.Second

// maxMessage bounds a line from QEMU.
const maxMessage = 1 << 20

// errClosed is what commands answer once QEMU has closed the connection: it is gone.
var errClosed = errors.New("QEMU has closed its control socket")

// event is something that QEMU tells unasked.
type event struct {
	Name string `json:"event"`
	Data struct {
		Guest  bool   `json:"guest"`
		Device string `json:"device"`
		Reason string `json:"reason"`
	} `json:"data"`
}

// qmp is a connection to QEMU's machine protocol (qemu.org, docs/interop/qmp-spec).
type qmp struct {
	conn   net.Conn
	events chan event // closed when QEMU has closed the connection

	mu      sync.Mutex // one command at a time
	last    int        // the last command's ID
	answers chan answer
}

type answer struct {
	ID     int             `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// refusal is a command that QEMU did not carry out.
type refusal struct{ command, class, words string }

func (r *refusal) Error() string {
	return fmt.Sprintf("QEMU refused %s: %s: %s", r.command, r.class, r.words)
}

// newQMP takes conn over: it waits for QEMU's greeting and makes the connection ready for
// commands. The context bounds the wait.
func newQMP(ctx context.Context, conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, events: make(chan event, 16), answers: make(chan answer, 1)}
	greeted := make(chan struct{})
	go q.read(greeted)
	select {
	case <-greeted:
	case <-ctx.Done():
		_ = conn.Close()
		return nil, fmt.Errorf("wait for QEMU's greeting: %w", ctx.Err())
	}
	if err := q.execute(ctx, "qmp_capabilities", nil); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("greet QEMU: %w", err)
	}
	return q, nil
}

// read sorts what QEMU sends into answers and events until the connection closes.
func (q *qmp) read(greeted chan<- struct{}) {
	defer close(q.events)
	defer close(q.answers)
	lines := bufio.NewReaderSize(q.conn, 4096)
	first := true
	for {
		line, err := readLine(lines)
		if err != nil {
			if first {
				close(greeted)
			}
			return
		}
		var message struct {
			answer
			event
			QMP json.RawMessage `json:"QMP"`
		}
		if json.Unmarshal(line, &message) != nil {
			continue
		}
		switch {
		case message.QMP != nil:
			if first {
				close(greeted)
				first = false
			}
		case message.Name != "":
			q.tell(message.event)
		default:
			q.answer(message.answer)
		}
	}
}

// answer never holds the reader up: an answer that nobody took in time gives way.
func (q *qmp) answer(a answer) {
	for {
		select {
		case q.answers <- a:
			return
		default:
		}
		select {
		case <-q.answers:
		default:
		}
	}
}

// tell never holds the reader up. Only the shutdown matters to anyone, and it is looked
// up with query-status as well.
func (q *qmp) tell(e event) {
	select {
	case q.events <- e:
	default:
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, more, err := r.ReadLine()
		if err != nil {
			return nil, err
		}
		line = append(line, part...)
		if len(line) > maxMessage {
			return nil, io.ErrShortBuffer
		}
		if !more {
			return line, nil
		}
	}
}

// execute runs a command and decodes what it returns into result, unless that is nil.
func (q *qmp) execute(ctx context.Context, command string, result any) error {
	return q.run(ctx, command, nil, result)
}

// run is execute with arguments.
func (q *qmp) run(ctx context.Context, command string, arguments map[string]any, result any) error {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	q.mu.Lock()
	defer q.mu.Unlock()

	q.last++
	message := map[string]any{"execute": command, "id": q.last}
	if arguments != nil {
		message["arguments"] = arguments
	}
	request, err := json.Marshal(message)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := q.conn.SetWriteDeadline(deadline); err != nil {
		return errClosed
	}
	if _, err := q.conn.Write(append(request, '\n')); err != nil {
		return errors.Join(errClosed, err)
	}
	for {
		select {
		case a, ok := <-q.answers:
			switch {
			case !ok:
				return errClosed
			case a.ID != q.last:
				continue // to a command that was given up
			case a.Error != nil:
				return &refusal{command: command, class: a.Error.Class, words: a.Error.Desc}
			case result != nil:
				if err := json.Unmarshal(a.Return, result); err != nil {
					return fmt.Errorf("read QEMU's answer to %s: %w", command, err)
				}
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for QEMU's answer to %s: %w", command, ctx.Err())
		}
	}
}

// status is QEMU's run state: prelaunch, running, shutdown, internal-error, ...
func (q *qmp) status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	if err := q.execute(ctx, "query-status", &s); err != nil {
		return "", err
	}
	return s.Status, nil
}
