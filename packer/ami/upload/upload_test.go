package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// fakeEBS is one snapshot at EBS. fail, when set, decides about each call before it is
// carried out; lose, when set, about its answer after.
type fakeEBS struct {
	mu        sync.Mutex
	blocks    map[int32]blocks.Sum
	puts      map[int32]int // attempts
	completes int
	busy, top int
	state     ec2types.SnapshotState
	fail      func(call string, index int32, attempt int) error
	lose      func(call string) error
}

func newFake() *fakeEBS {
	return &fakeEBS{blocks: map[int32]blocks.Sum{}, puts: map[int32]int{}, state: ec2types.SnapshotStatePending}
}

func refusal(status int, code string) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: "refused"},
	}
}

func (f *fakeEBS) StartSnapshot(_ context.Context, in *ebs.StartSnapshotInput, _ ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error) {
	return &ebs.StartSnapshotOutput{SnapshotId: aws.String("snap-1"), BlockSize: aws.Int32(blocks.Size), Description: in.Description}, nil
}

func (f *fakeEBS) PutSnapshotBlock(ctx context.Context, in *ebs.PutSnapshotBlockInput, _ ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error) {
	data, err := io.ReadAll(in.BlockData)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	index := aws.ToInt32(in.BlockIndex)
	f.puts[index]++
	f.busy++
	f.top = max(f.top, f.busy)
	defer func() { f.busy-- }()
	if f.fail != nil {
		attempt := f.puts[index]
		f.mu.Unlock()
		err := f.fail("put", index, attempt)
		f.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256(data)
	if len(data) != blocks.Size || aws.ToString(in.Checksum) != base64.StdEncoding.EncodeToString(sum[:]) {
		return nil, refusal(400, "ValidationException")
	}
	f.blocks[index] = sum
	return &ebs.PutSnapshotBlockOutput{Checksum: in.Checksum}, ctx.Err()
}

func (f *fakeEBS) CompleteSnapshot(_ context.Context, in *ebs.CompleteSnapshotInput, _ ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.completes++
	if f.fail != nil {
		if err := f.fail("complete", 0, f.completes); err != nil {
			return nil, err
		}
	}
	linear := sha256.New()
	for _, index := range slices.Sorted(maps.Keys(f.blocks)) {
		sum := f.blocks[index]
		linear.Write(sum[:])
	}
	if f.state != ec2types.SnapshotStatePending || int(aws.ToInt32(in.ChangedBlocksCount)) != len(f.blocks) ||
		aws.ToString(in.Checksum) != base64.StdEncoding.EncodeToString(linear.Sum(nil)) {
		return nil, refusal(400, "ValidationException")
	}
	f.state = ec2types.SnapshotStateCompleted
	if f.lose != nil {
		if err := f.lose("complete"); err != nil {
			return nil, err
		}
	}
	return &ebs.CompleteSnapshotOutput{}, nil
}

func (f *fakeEBS) DescribeSnapshots(_ context.Context, in *ec2.DescribeSnapshotsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &ec2.DescribeSnapshotsOutput{Snapshots: []ec2types.Snapshot{{SnapshotId: aws.String(in.SnapshotIds[0]), State: f.state}}}, nil
}

// trial is a disk and where it goes.
type trial struct {
	uploader Uploader
	ebs      *fakeEBS
	disk     []byte
	plan     []blocks.Block
	sent     map[int32]int
	job      Job
}

// newTrial makes a disk of n blocks of noise.
func newTrial(n int) *trial {
	t := &trial{ebs: newFake(), disk: make([]byte, n*blocks.Size), sent: map[int32]int{}}
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(t.disk)
	for i := range n {
		t.plan = append(t.plan, blocks.Block{Index: int32(i), Sum: sha256.Sum256(t.disk[i*blocks.Size : (i+1)*blocks.Size])})
	}
	policy := retry.Default
	policy.Base, policy.Max = time.Microsecond, time.Millisecond
	t.uploader = Uploader{Writer: t.ebs, Describer: t.ebs, Retry: policy, Poll: time.Microsecond}
	var mu sync.Mutex
	t.job = Job{
		Snapshot: "snap-1", Started: time.Now(), Disk: bytes.NewReader(t.disk), Blocks: t.blocks(),
		WasSent: func(index int32) bool { mu.Lock(); defer mu.Unlock(); return t.sent[index] > 0 },
		Sent:    func(index int32) error { mu.Lock(); defer mu.Unlock(); t.sent[index]++; return nil },
	}
	return t
}

func (t *trial) blocks() iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		for _, b := range t.plan {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// arrived fails the test unless EBS has the whole disk and each block was recorded once.
func (t *trial) arrived(test *testing.T) {
	test.Helper()
	for _, b := range t.plan {
		if t.ebs.blocks[b.Index] != b.Sum || t.sent[b.Index] != 1 {
			test.Fatalf("block %d did not arrive, or was recorded %d times", b.Index, t.sent[b.Index])
		}
	}
}

func (t *trial) complete(ctx context.Context, again bool) error {
	total, err := blocks.Add(t.blocks())
	if err != nil {
		return err
	}
	return t.uploader.Complete(ctx, Seal{Snapshot: "snap-1", Started: t.job.Started, Total: total, Again: again})
}

func TestADiskArrivesWholeAndIsSealed(t *testing.T) {
	trial := newTrial(64)
	id, err := trial.uploader.Start(t.Context(), Snapshot{Token: "t", VolumeGiB: 1})
	if err != nil || id != "snap-1" {
		t.Fatalf("%s, %v", id, err)
	}
	if err := trial.uploader.Send(t.Context(), trial.job); err != nil {
		t.Fatal(err)
	}
	trial.arrived(t)
	if err := trial.complete(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasSentIsNotSentAgain(t *testing.T) {
	trial := newTrial(16)
	for _, b := range trial.plan[:10] {
		trial.sent[b.Index], trial.ebs.blocks[b.Index] = 1, b.Sum
	}
	if err := trial.uploader.Send(t.Context(), trial.job); err != nil {
		t.Fatal(err)
	}
	trial.arrived(t)
	if len(trial.ebs.puts) != 6 {
		t.Errorf("%d blocks were put, want 6", len(trial.ebs.puts))
	}
}

func TestPutsThatFailAtFirstGetThrough(t *testing.T) {
	for name, fail := range map[string]func(call string, index int32, attempt int) error{
		"throttled twenty times": func(_ string, _ int32, attempt int) error {
			if attempt <= 20 {
				return refusal(400, "RequestThrottledException")
			}
			return nil
		},
		"failed four times": func(_ string, _ int32, attempt int) error {
			if attempt <= 4 {
				return refusal(500, "InternalServerException")
			}
			return nil
		},
		"cut off": func(_ string, _ int32, attempt int) error {
			if attempt == 1 {
				return &smithyhttp.RequestSendError{Err: io.ErrUnexpectedEOF}
			}
			return nil
		},
		"of a snapshot that is not known yet": func(_ string, _ int32, attempt int) error {
			if attempt <= 20 {
				return refusal(404, "ResourceNotFoundException")
			}
			return nil
		},
	} {
		trial := newTrial(24)
		trial.ebs.fail = fail
		if err := trial.uploader.Send(t.Context(), trial.job); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		trial.arrived(t)
	}
}

func TestAHangingPutIsTriedAgain(t *testing.T) {
	trial := newTrial(4)
	trial.uploader.Retry.Deadline = 20 * time.Millisecond
	trial.ebs.fail = func(_ string, index int32, attempt int) error {
		if index == 2 && attempt == 1 {
			time.Sleep(40 * time.Millisecond) // the fake's answer comes after the deadline
		}
		return nil
	}
	if err := trial.uploader.Send(t.Context(), trial.job); err != nil {
		t.Fatal(err)
	}
	trial.arrived(t)
	if trial.ebs.puts[2] < 2 {
		t.Error("the put that hung was not repeated")
	}
}

func TestARefusalThatIsFinalStopsTheUpload(t *testing.T) {
	for name, test := range map[string]struct {
		err     error
		started time.Duration // before now
		puts    int           // of the refused block
		want    string
	}{
		"access denied":                {refusal(403, "AccessDeniedException"), 0, 1, "AccessDenied"},
		"a wrong checksum":             {refusal(400, "ValidationException"), 0, 1, "put block 3"},
		"a fault that does not pass":   {refusal(500, "InternalServerException"), 0, 5, "5 attempts"},
		"a snapshot that has vanished": {refusal(404, "ResourceNotFoundException"), appears, 1, "ResourceNotFound"},
	} {
		trial := newTrial(100)
		trial.job.Started = time.Now().Add(-test.started)
		trial.ebs.fail = func(_ string, index int32, _ int) error {
			switch {
			case index == 3:
				return test.err
			case index > 20: // so that only the refusal can end the upload
				return refusal(400, "RequestThrottledException")
			}
			return nil
		}
		err := trial.uploader.Send(t.Context(), trial.job)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v", name, err)
		}
		if trial.ebs.puts[3] != test.puts {
			t.Errorf("%s: the block was put %d times, want %d", name, trial.ebs.puts[3], test.puts)
		}
	}
}

func TestADiskThatChangesIsNotUploaded(t *testing.T) {
	trial := newTrial(8)
	trial.disk[5*blocks.Size] ^= 1
	err := trial.uploader.Send(t.Context(), trial.job)
	if err == nil || !strings.Contains(err.Error(), "block 5 of the disk has changed") {
		t.Errorf("the error is %v", err)
	}
	if trial.ebs.puts[5] != 1 {
		t.Errorf("the block was put %d times", trial.ebs.puts[5])
	}
}

func TestAJournalThatFailsStopsTheUpload(t *testing.T) {
	trial, full := newTrial(8), errors.New("no space left on device")
	trial.job.Sent = func(int32) error { return full }
	if err := trial.uploader.Send(t.Context(), trial.job); !errors.Is(err, full) {
		t.Errorf("the error is %v", err)
	}
}

func TestACancelledUploadStopsWithItsCause(t *testing.T) {
	trial, cause := newTrial(100), errors.New("Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	trial.ebs.fail = func(_ string, index int32, _ int) error {
		if index == 10 {
			cancel(cause)
		}
		return nil
	}
	if err := trial.uploader.Send(ctx, trial.job); !errors.Is(err, cause) {
		t.Errorf("the error is %v", err)
	}
}

func TestASealWhoseAnswerIsLostCounts(t *testing.T) {
	trial := newTrial(3)
	if err := trial.uploader.Send(t.Context(), trial.job); err != nil {
		t.Fatal(err)
	}
	trial.ebs.lose = func(string) error { return &smithyhttp.RequestSendError{Err: io.EOF} }
	if err := trial.complete(t.Context(), false); err != nil {
		t.Errorf("after a lost answer: %v", err)
	}
	if trial.ebs.completes != 2 {
		t.Errorf("CompleteSnapshot was called %d times, want 2", trial.ebs.completes)
	}
	if err := trial.complete(t.Context(), true); err != nil {
		t.Errorf("in a process that went on: %v", err)
	}
}

func TestASealWhoseAnswerIsLostIsWaitedForAsAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial := newTrial(3)
		trial.uploader.Poll = time.Second
		if err := trial.uploader.Send(t.Context(), trial.job); err != nil {
			t.Fatal(err)
		}
		trial.ebs.lose = func(string) error {
			trial.ebs.state = ec2types.SnapshotStatePending
			time.AfterFunc(10*time.Minute, func() {
				trial.ebs.mu.Lock()
				defer trial.ebs.mu.Unlock()
				trial.ebs.state = ec2types.SnapshotStateCompleted
			})
			return &smithyhttp.RequestSendError{Err: io.EOF}
		}
		trial.ebs.fail = func(call string, _ int32, attempt int) error {
			if call == "complete" && attempt > 1 {
				return refusal(400, "ValidationException")
			}
			return nil
		}
		if err := trial.complete(t.Context(), false); err != nil {
			t.Errorf("after a lost answer: %v", err)
		}
	})
}

func TestASealOfASnapshotThatIsNotKnownYetIsAskedForAgain(t *testing.T) {
	trial := newTrial(0)
	trial.ebs.fail = func(_ string, _ int32, attempt int) error {
		if attempt <= 10 {
			return refusal(404, "ResourceNotFoundException")
		}
		trial.ebs.state = ec2types.SnapshotStateCompleted
		return nil
	}
	if err := trial.complete(t.Context(), true); err != nil {
		t.Error(err)
	}
	if trial.ebs.completes != 11 {
		t.Errorf("CompleteSnapshot was called %d times, want 11", trial.ebs.completes)
	}
}

func TestASealThatIsRefusedFails(t *testing.T) {
	trial := newTrial(3)
	if err := trial.complete(t.Context(), false); err == nil || !strings.Contains(err.Error(), "ValidationException") {
		t.Errorf("a seal of a snapshot without its blocks gives %v", err)
	}
	if trial.ebs.completes != 1 {
		t.Errorf("CompleteSnapshot was called %d times", trial.ebs.completes)
	}
	trial.ebs.fail = func(string, int32, int) error { return refusal(403, "AccessDeniedException") }
	if err := trial.complete(t.Context(), true); !retry.Denied(err) {
		t.Errorf("without permission: %v", err)
	}
	trial.ebs.fail, trial.ebs.state = nil, ec2types.SnapshotStateError
	if err := trial.complete(t.Context(), true); err == nil {
		t.Error("a snapshot that failed counts as completed")
	}
}
