package upload

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/ami/retry"
)

// completes is how long EBS may take to complete a snapshot that was sealed.
const completes = 15 * time.Minute

// Seal is what a snapshot must hold to be completed.
type Seal struct {
	Snapshot string
	Started  time.Time // of the snapshot: it may be unknown for a while after
	Total    blocks.Total
	Again    bool // an earlier process may have asked for it already
}

// Complete seals the snapshot and waits until it is completed.
func (u Uploader) Complete(ctx context.Context, seal Seal) error {
	id, total, again := seal.Snapshot, seal.Total, seal.Again
	if total.Blocks > math.MaxInt32 {
		return fmt.Errorf("complete snapshot %s: %d blocks are more than EBS takes", id, total.Blocks)
	}
	input := &ebs.CompleteSnapshotInput{
		SnapshotId:                aws.String(id),
		ChangedBlocksCount:        aws.Int32(int32(total.Blocks)),
		Checksum:                  aws.String(base64.StdEncoding.EncodeToString(total.Checksum[:])),
		ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
		ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
	}
	if total.Blocks == 0 {
		// There is nothing to hash.
		input.Checksum, input.ChecksumAlgorithm, input.ChecksumAggregationMethod = nil, "", ""
	}
	err := u.Retry.Do(ctx, retry.Call{
		Try: func(ctx context.Context) error {
			_, err := u.Writer.CompleteSnapshot(ctx, input)
			return err
		},
		Classify: u.early(seal.Started),
		Failed:   func(_ error, class retry.Class) { again = again || class == retry.Transient },
	})
	// A seal whose answer was lost is refused the second time. Its state tells, in the end:
	// while it is pending it may have been sealed or not.
	if err != nil && (!again || retry.Denied(err) || ctx.Err() != nil) {
		return fmt.Errorf("complete snapshot %s: %w", id, err)
	}
	if waited := u.wait(ctx, seal); waited != nil {
		if err != nil {
			return fmt.Errorf("complete snapshot %s: %w", id, err)
		}
		return waited
	}
	return nil
}

// wait looks at the snapshot until it is completed.
func (u Uploader) wait(ctx context.Context, seal Seal) error {
	id, deadline := seal.Snapshot, time.Now().Add(completes)
	for {
		state, why, err := u.State(ctx, id)
		switch {
		case err != nil && (!missing(err) || time.Since(seal.Started) > appears):
			return err
		case state == ec2types.SnapshotStateCompleted:
			return nil
		case state == ec2types.SnapshotStateError:
			return fmt.Errorf("complete snapshot %s: EBS has failed it: %s", id, why)
		case time.Now().After(deadline):
			return fmt.Errorf("complete snapshot %s: it is still %s after %s", id, state, completes)
		}
		if err := retry.Sleep(ctx, u.Poll); err != nil {
			return err
		}
	}
}

// State is a snapshot's state and the message that goes with it.
func (u Uploader) State(ctx context.Context, id string) (state ec2types.SnapshotState, why string, err error) {
	err = u.Retry.Do(ctx, retry.Call{Try: func(ctx context.Context) error {
		out, err := u.Describer.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
		if err != nil {
			return err
		}
		if len(out.Snapshots) != 1 {
			return fmt.Errorf("EC2 describes %d snapshots", len(out.Snapshots))
		}
		state, why = out.Snapshots[0].State, aws.ToString(out.Snapshots[0].StateMessage)
		return nil
	}})
	if err != nil {
		return "", "", fmt.Errorf("look at snapshot %s: %w", id, err)
	}
	return state, why, nil
}
