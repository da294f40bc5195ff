package ami

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/image"
)

// writeDisk writes a disk of size blocks with noise in the blocks given and a partition
// table, which is in block 0.
func writeDisk(t testing.TB, path string, size int, noise ...int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(size) * blocks.Size); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, blocks.Size)
	for _, index := range noise {
		random := rand.NewChaCha8([32]byte{byte(index), byte(index >> 8)})
		_, _ = random.Read(block)
		if _, err := f.WriteAt(block, int64(index)*blocks.Size); err != nil {
			t.Fatal(err)
		}
	}
	header := make([]byte, 512)
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint32(header[8:], 0x10000)
	binary.LittleEndian.PutUint32(header[12:], 92)
	binary.LittleEndian.PutUint64(header[48:], uint64(size*blocks.Size/512)-34)
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	if _, err := f.WriteAt(header, 512); err != nil {
		t.Fatal(err)
	}
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// listener is an Ui that tells what it hears.
type listener struct {
	packer.Ui
	mu    sync.Mutex
	lines []string
	hear  func(line string)
}

func newListener(w io.Writer) *listener {
	return &listener{Ui: &packer.BasicUi{Reader: new(bytes.Buffer), Writer: w, ErrorWriter: w}}
}

func (l *listener) Say(line string) {
	l.mu.Lock()
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	if l.hear != nil {
		l.hear(line)
	}
	l.Ui.Say(line)
}

// trial is a post-processor, its disk and the AWS it publishes to.
type trial struct {
	aws   *endpointtest.Endpoint
	ui    *listener
	disk  string
	state string
	more  map[string]any // configuration
	facts map[string]any // of the artifact
}

func newTrial(t *testing.T, options ...endpointtest.Option) *trial {
	t.Helper()
	tr := &trial{
		aws:  endpointtest.Start(t, append([]endpointtest.Option{endpointtest.Quiet()}, options...)...),
		ui:   newListener(t.Output()),
		disk: filepath.Join(t.TempDir(), "disk.raw"), state: t.TempDir(),
		more: map[string]any{}, facts: map[string]any{"kubernetes_version": "1.37.2"},
	}
	for _, variable := range tr.aws.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	t.Setenv("HTTPS_PROXY", "")
	writeDisk(t, tr.disk, 40, 0, 1, 5, 6, 7, 30)
	return tr
}

func (tr *trial) config() map[string]any {
	config := map[string]any{"journal_directory": tr.state}
	for key, value := range tr.more {
		config[key] = value
	}
	return config
}

// quickCloud looks often, as the lab is quick.
func quickCloud(string) *cloud {
	c := newCloud("")
	c.retry.Base, c.retry.Max, c.poll, c.visible, c.announces = time.Millisecond, 20*time.Millisecond, 10*time.Millisecond, time.Second, time.Second
	return c
}

func (tr *trial) run(ctx context.Context) (*Artifact, error) {
	p := &PostProcessor{cloud: quickCloud("")}
	if err := p.Configure(tr.config()); err != nil {
		return nil, err
	}
	source := &packer.MockArtifact{BuilderIdValue: image.BuilderID, FilesValue: []string{tr.disk}, StateValues: tr.facts}
	artifact, keep, force, err := p.PostProcess(ctx, tr.ui, source)
	if !keep || force {
		return nil, fmt.Errorf("the disk is not kept: %v, %v", keep, force)
	}
	if err != nil {
		return nil, err
	}
	return artifact.(*Artifact), nil
}

// must runs it and ends the test on an error.
func (tr *trial) must(t *testing.T) *Artifact {
	t.Helper()
	artifact, err := tr.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return artifact
}

// clean ends the test unless nothing is left, at AWS or in the state directory.
func (tr *trial) clean(t *testing.T) {
	t.Helper()
	if left := tr.aws.Left(); len(left) > 0 {
		t.Errorf("at AWS these are left: %v", left)
	}
	for _, pattern := range []string{"*.journal", "maps/*"} {
		if left, _ := filepath.Glob(filepath.Join(tr.state, pattern)); len(left) > 0 {
			t.Errorf("these are left: %v", left)
		}
	}
}

// holds checks that an image's disk is the file, block by block.
func (tr *trial) holds(t *testing.T, image string) {
	t.Helper()
	path, _, err := tr.aws.Catalog.Disk(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := os.Open(tr.disk)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	a, b := make([]byte, blocks.Size), make([]byte, blocks.Size)
	info, _ := want.Stat()
	for index := range int32((info.Size() + blocks.Size - 1) / blocks.Size) {
		if err := blocks.Read(got, index, a); err != nil {
			t.Fatal(err)
		}
		if err := blocks.Read(want, index, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("block %d of image %s is another", index, image)
		}
	}
}
