package node

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

//go:embed scripts
var scripts embed.FS

// remote is the machine that becomes a node, reached through Packer's communicator.
type remote struct {
	comm  packersdk.Communicator
	stage string // a directory of ours on it
	root  string // what to put before a command that needs root
}

// cleanLimit bounds the removal of the staging directory.
const cleanLimit = 30 * time.Second

// clean removes the staging directory, also after a failure and when the build is
// cancelled: not every builder throws the machine away then.
func (r remote) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	_, err := r.run(ctx, "rm", r.root+"rm -rf "+quote(r.stage))
	return err
}

// script runs one of our scripts there. A failure carries the end of what it said.
func (r remote) script(ctx context.Context, name string, args ...string) (string, error) {
	content, err := scripts.ReadFile("scripts/" + name)
	if err != nil {
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	target := path.Join(r.stage, name)
	if err := r.upload(target, bytes.NewReader(content)); err != nil {
		return "", err
	}
	words := append([]string{"sh", target}, args...)
	for i := range words {
		words[i] = quote(words[i])
	}
	return r.run(ctx, name, r.root+strings.Join(words, " "))
}

// run runs a shell command there, called doing in errors, and returns its output.
func (r remote) run(ctx context.Context, doing, command string) (string, error) {
	var stdout, stderr output
	cmd := &packersdk.RemoteCmd{Command: command, Stdout: &stdout, Stderr: &stderr}
	if err := r.comm.Start(ctx, cmd); err != nil {
		return "", fmt.Errorf("run %s on the machine: %w", doing, err)
	}
	exited := make(chan int, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("run %s on the machine: %w", doing, context.Cause(ctx))
	case status := <-exited:
		if status == packersdk.CmdDisconnect {
			return "", fmt.Errorf("run %s on the machine: the connection was lost", doing)
		}
		if status != 0 {
			return "", fmt.Errorf("run %s on the machine: exit status %d: %s", doing, status, strings.TrimSpace(stderr.String()))
		}
		return stdout.String(), nil
	}
}

// upload writes a file there.
func (r remote) upload(target string, content io.Reader) error {
	if err := r.comm.Upload(target, content, nil); err != nil {
		return fmt.Errorf("upload %s: %w", target, err)
	}
	return nil
}

// stream uploads what write writes, without keeping it.
func (r remote) stream(target string, write func(io.Writer) error) error {
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(writer)
		writer.CloseWithError(err)
		done <- err
	}()
	err := r.upload(target, reader)
	_ = reader.CloseWithError(errors.New("the upload has ended"))
	if writeErr := <-done; writeErr != nil && err != nil {
		return errors.Join(writeErr, err)
	} else if writeErr != nil {
		return fmt.Errorf("upload %s: %w", target, writeErr)
	}
	return err
}

// maxDownload bounds what is read from the machine into memory.
const maxDownload = 64 << 20

// download reads a file of the staging directory.
func (r remote) download(name string) ([]byte, error) {
	content := &output{limit: maxDownload}
	if err := r.comm.Download(path.Join(r.stage, name), content); err != nil {
		return nil, fmt.Errorf("download %s: %w", name, err)
	}
	return []byte(content.String()), nil
}

// output collects what a command says, bounded; streams may write from goroutines that
// outlive the command.
type output struct {
	mu    sync.Mutex
	limit int
	buf   bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	limit := o.limit
	if limit == 0 {
		limit = 1 << 20
	}
	if o.buf.Len()+len(p) > limit {
		return 0, fmt.Errorf("more than %d bytes from the machine", limit)
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// quote makes one word of a shell command.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
