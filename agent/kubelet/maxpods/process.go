package maxpods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods/exchange"
)

// name is the process's.
const name = "ovenbird-evaluator"

// maxMemory bounds the evaluator's data in bytes, of which Go takes 64 MiB at a time.
const maxMemory = 256 << 20

// inMemory makes a file of a program that can be run and not be changed any more. It is on no
// file system, so it needs none that can be written and that programs run from.
func inMemory(content io.Reader) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("evaluator", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, where every such file can be run
		fd, err = unix.MemfdCreate("evaluator", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "evaluator")
	_, err = io.Copy(file, content)
	if err == nil {
		_, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// run runs a program with nothing but a question on its standard input, and returns its answer.
func run(program *os.File, question []byte, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// The child has the descriptor, by the same number, until the program has taken its place.
	command := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", program.Fd()))
	command.Args = []string{name}
	command.Env = []string{}
	command.Dir = "/"
	command.WaitDelay = time.Second
	answer, said := head{limit: exchange.MaxAnswer}, head{limit: 1 << 10}
	command.Stdout, command.Stderr = &answer, &said
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the evaluator: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start the evaluator: %w", err)
	}
	// Before it has anything to work on.
	bound := unix.Rlimit{Cur: maxMemory, Max: maxMemory}
	unbounded := unix.Prlimit(command.Process.Pid, unix.RLIMIT_DATA, &bound, nil)
	if unbounded == nil {
		_, _ = stdin.Write(question) // whoever ends without having read it is told of below
	}
	_ = stdin.Close()
	err = command.Wait()
	switch {
	case unbounded != nil:
		return nil, fmt.Errorf("bound the evaluator's memory: %w", unbounded)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the evaluator did not answer in %s", timeout)
	case err != nil && len(said.kept) > 0:
		line, _, _ := strings.Cut(string(said.kept), "\n")
		return nil, fmt.Errorf("the evaluator failed: %w: %s", err, line)
	case err != nil:
		return nil, fmt.Errorf("the evaluator failed: %w", err)
	}
	return answer.kept, nil
}

// head keeps the beginning of what is written to it.
type head struct {
	limit int
	kept  []byte
}

func (h *head) Write(data []byte) (int, error) {
	h.kept = append(h.kept, data[:min(len(data), h.limit-len(h.kept))]...)
	return len(data), nil
}
