// Package upload makes an EBS snapshot of blocks through the EBS direct APIs. It sends
// each block until EBS has it or will never take it, as many at once as EBS bears, and
// holds no more than those in memory. It remembers nothing itself: its caller records what
// was sent, and may call it again in another process to send the rest.
package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// Writer is the part of the EBS direct APIs that writes. *ebs.Client is one; its own
// retries must be off.
type Writer interface {
	StartSnapshot(context.Context, *ebs.StartSnapshotInput, ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
	PutSnapshotBlock(context.Context, *ebs.PutSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
	CompleteSnapshot(context.Context, *ebs.CompleteSnapshotInput, ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
}

// Describer tells the state of snapshots. *ec2.Client is one.
type Describer interface {
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
}

// DefaultMost requests are under way at once when Uploader.Most is 0: at 50 ms a block they
// reach the 1,000 puts per second that EBS allows an account.
const DefaultMost = 64

// appears is how long after its start a snapshot may still be unknown to the servers that
// take blocks; the EBS team's own figure (awslabs/coldsnap, pull request 56).
const appears = 2 * time.Minute

// Uploader uploads to one region.
type Uploader struct {
	Writer    Writer
	Describer Describer
	Retry     retry.Policy
	Most      int           // requests at once; 0: DefaultMost
	Poll      time.Duration // between looks at a snapshot's state
}

// Snapshot is what is asked for. The same token with the same rest is the same snapshot.
type Snapshot struct {
	Token       string
	VolumeGiB   int64
	Description string
	Parent      string // starts with this snapshot's blocks and encryption
	Encrypted   bool
	KMSKey      string // an ARN; empty: the account's default key
	Tags        map[string]string
}

// Start asks for a snapshot and returns its id.
func (u Uploader) Start(ctx context.Context, s Snapshot) (string, error) {
	input := &ebs.StartSnapshotInput{
		VolumeSize:  aws.Int64(s.VolumeGiB),
		ClientToken: aws.String(s.Token),
		Description: aws.String(s.Description),
		Timeout:     aws.Int32(60), // minutes without a block until AWS gives it up
	}
	switch {
	case s.Parent != "": // whose encryption it inherits; EBS refuses both together
		input.ParentSnapshotId = aws.String(s.Parent)
	case s.Encrypted:
		input.Encrypted = aws.Bool(true)
		if s.KMSKey != "" {
			input.KmsKeyArn = aws.String(s.KMSKey)
		}
	}
	// In order: the same token is good for the same request only.
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		input.Tags = append(input.Tags, ebstypes.Tag{Key: aws.String(key), Value: aws.String(s.Tags[key])})
	}
	var id string
	err := u.Retry.Do(ctx, retry.Call{Finish: true, Try: func(ctx context.Context) error {
		out, err := u.Writer.StartSnapshot(ctx, input)
		if err != nil {
			return err
		}
		if got := aws.ToInt32(out.BlockSize); got != blocks.Size {
			return fmt.Errorf("EBS wants blocks of %d bytes, this program writes %d", got, blocks.Size)
		}
		id = aws.ToString(out.SnapshotId)
		return nil
	}})
	if err != nil {
		return "", fmt.Errorf("start a snapshot of %d GiB: %w", s.VolumeGiB, err)
	}
	return id, nil
}

// Job is the blocks of one snapshot.
type Job struct {
	Snapshot string
	Started  time.Time // of the snapshot: it may be unknown for a while after
	Disk     io.ReaderAt
	Blocks   iter.Seq2[blocks.Block, error] // ascending
	// WasSent tells whether a block needs no sending; Sent hears of each that was sent,
	// from many goroutines. Sending stops with an error of Sent.
	WasSent func(index int32) bool
	Sent    func(index int32) error
}

// Send sends all blocks that were not sent. It stops at the first error that is final.
func (u Uploader) Send(ctx context.Context, job Job) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	most := u.Most
	if most == 0 {
		most = DefaultMost
	}
	window := newWindow(most)
	// Not a sync.Pool, which the garbage collector empties and the heap then holds twice.
	free := make(chan []byte, most)
	var sending sync.WaitGroup
	for block, err := range job.Blocks {
		if err != nil {
			stop(err)
			break
		}
		if job.WasSent(block.Index) {
			continue
		}
		if window.acquire(ctx) != nil {
			break
		}
		sending.Go(func() {
			defer window.release()
			var buf []byte
			select {
			case buf = <-free:
			default:
				buf = make([]byte, blocks.Size)
			}
			if err := u.put(ctx, job, window, block, buf); err != nil {
				stop(err)
			}
			free <- buf
		})
	}
	sending.Wait()
	return context.Cause(ctx)
}

// put sends one block.
func (u Uploader) put(ctx context.Context, job Job, window *window, block blocks.Block, buf []byte) error {
	if err := blocks.Read(job.Disk, block.Index, buf); err != nil {
		return err
	}
	sum := base64.StdEncoding.EncodeToString(block.Sum[:])
	epoch := 0
	err := u.Retry.Do(ctx, retry.Call{
		Try: func(ctx context.Context) error {
			epoch = window.epoch()
			began := time.Now()
			out, err := u.Writer.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
				SnapshotId:        aws.String(job.Snapshot),
				BlockIndex:        aws.Int32(block.Index),
				BlockData:         bytes.NewReader(buf),
				DataLength:        aws.Int32(blocks.Size),
				Checksum:          aws.String(sum),
				ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
			})
			if err != nil {
				return err
			}
			window.succeeded(time.Since(began))
			if got := aws.ToString(out.Checksum); got != "" && got != sum {
				return fmt.Errorf("EBS has stored a block with checksum %s, not %s", got, sum)
			}
			return nil
		},
		Classify: u.early(job.Started),
		Failed: func(err error, class retry.Class) {
			if class == retry.Throttled && !missing(err) || errors.Is(err, context.DeadlineExceeded) {
				window.refused(epoch)
			}
		},
	})
	if err != nil {
		if ctx.Err() == nil && sha256.Sum256(buf) != block.Sum {
			return fmt.Errorf("block %d of the disk has changed since it was hashed: let nothing write to the disk while it is uploaded (%w)", block.Index, err)
		}
		return fmt.Errorf("put block %d of snapshot %s: %w", block.Index, job.Snapshot, err)
	}
	return job.Sent(block.Index)
}

// early has a snapshot that is not known looked for again while it is new.
func (Uploader) early(started time.Time) func(error) retry.Class {
	return func(err error) retry.Class {
		if missing(err) && time.Since(started) < appears {
			return retry.Throttled
		}
		return retry.Classify(err)
	}
}

// missing tells whether EBS does not know the snapshot, or not yet.
func missing(err error) bool {
	switch retry.Code(err) {
	case "ResourceNotFoundException", "InvalidSnapshot.NotFound":
		return true
	}
	return false
}
