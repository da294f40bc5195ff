package ebs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

const blockSize = 512 << 10

// disk is a client of an endpoint that delays nothing.
type disk struct {
	*ebs.Client
	endpoint *endpointtest.Endpoint
}

func newDisk(t *testing.T, options ...endpointtest.Option) disk {
	t.Helper()
	e := endpointtest.Start(t, append([]endpointtest.Option{endpointtest.After(0, 0)}, options...)...)
	return newClient(e)
}

func newClient(e *endpointtest.Endpoint) disk { return disk{ebs.NewFromConfig(once(e.Config())), e} }

// once fails at the first refusal.
func once(c aws.Config) aws.Config {
	c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return c
}

func block(n byte) []byte { return bytes.Repeat([]byte{n}, blockSize) }

func checksum(data []byte) string {
	s := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(s[:])
}

func (d disk) start(t testing.TB, change ...func(*ebs.StartSnapshotInput)) string {
	t.Helper()
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}
	for _, c := range change {
		c(in)
	}
	out, err := d.StartSnapshot(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.SnapshotId
}

func (d disk) put(ctx context.Context, id string, index int32, data []byte, change ...func(*ebs.PutSnapshotBlockInput)) error {
	in := &ebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
		Checksum: aws.String(checksum(data)), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
	for _, c := range change {
		c(in)
	}
	_, err := d.PutSnapshotBlock(ctx, in)
	return err
}

func (d disk) complete(ctx context.Context, id string, blocks int32) error {
	_, err := d.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: &blocks})
	return err
}

// filled is a completed snapshot with these blocks.
func (d disk) filled(t *testing.T, blocks map[int32]byte, change ...func(*ebs.StartSnapshotInput)) string {
	t.Helper()
	id := d.start(t, change...)
	for index, n := range blocks {
		if err := d.put(t.Context(), id, index, block(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.complete(t.Context(), id, int32(len(blocks))); err != nil {
		t.Fatal(err)
	}
	d.await(t, id)
	return id
}

// await waits until a snapshot can be read, as a client of AWS would.
func (d disk) await(t *testing.T, id string) {
	t.Helper()
	for {
		_, err := d.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
		if err == nil {
			return
		}
		if reason(err) != "ValidationException INVALID_SNAPSHOT_ID" || t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// reason is an exception and the reason that it gives.
func reason(err error) string {
	var invalid *types.ValidationException
	var missing *types.ResourceNotFoundException
	var api smithy.APIError
	switch {
	case errors.As(err, &invalid):
		return "ValidationException " + string(invalid.Reason)
	case errors.As(err, &missing):
		return "ResourceNotFoundException " + string(missing.Reason)
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestWhatTheAPIRefusesIsRefusedWithItsReason(t *testing.T) {
	d := newDisk(t)
	ctx, id, full := t.Context(), d.start(t), d.filled(t, map[int32]byte{0: 1})
	start := func(in ebs.StartSnapshotInput) error {
		_, err := d.StartSnapshot(ctx, &in)
		return err
	}
	set := func(f func(*ebs.PutSnapshotBlockInput)) error { return d.put(ctx, id, 0, block(1), f) }
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"a volume of nothing", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(0)}), "ValidationException INVALID_VOLUME_SIZE"},
		{"a volume above 64 TiB", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(65537)}), "ValidationException INVALID_VOLUME_SIZE"},
		{"a short timeout", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Timeout: aws.Int32(9)}), "ValidationException INVALID_PARAMETER_VALUE"},
		{"a parent and encryption", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &full, Encrypted: aws.Bool(true)}), "ValidationException INVALID_PARAMETER_VALUE"},
		{"a parent that is not there", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: aws.String("snap-00000000")}), "ResourceNotFoundException SNAPSHOT_NOT_FOUND"},
		{"a parent that is pending", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &id}), "ValidationException INVALID_SNAPSHOT_ID"},
		{"a key without encryption", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), KmsKeyArn: aws.String("arn:aws:kms:us-west-2:111122223333:key/a")}), "ValidationException INVALID_PARAMETER_VALUE"},
		{"a tag of AWS's own", start(ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}}), "ValidationException INVALID_TAG"},
		{"a wrong checksum", set(func(in *ebs.PutSnapshotBlockInput) { in.Checksum = aws.String(checksum(nil)) }), "ValidationException INVALID_BLOCK"},
		{"a block beyond the volume", d.put(ctx, id, 2048, block(1)), "ValidationException INVALID_BLOCK"},
		{"a negative block", d.put(ctx, id, -1, block(1)), "ValidationException INVALID_BLOCK"},
		{"a short block", d.put(ctx, id, 0, block(1)[1:]), "ValidationException INVALID_BLOCK"},
		{"a length that is not the data's", set(func(in *ebs.PutSnapshotBlockInput) { in.DataLength = aws.Int32(4096) }), "ValidationException INVALID_BLOCK"},
		{"a block of a completed snapshot", d.put(ctx, full, 0, block(1)), "ValidationException INVALID_SNAPSHOT_ID"},
		{"a block of no snapshot", d.put(ctx, "snap-00000000", 0, block(1)), "ResourceNotFoundException SNAPSHOT_NOT_FOUND"},
		{"a malformed ID", d.put(ctx, "snap-XYZ", 0, block(1)), "ValidationException INVALID_SNAPSHOT_ID"},
		{"another number of blocks", d.complete(ctx, id, 1), "ValidationException INVALID_PARAMETER_VALUE"},
		{"a snapshot completed twice", d.complete(ctx, full, 1), "ValidationException INVALID_SNAPSHOT_ID"},
	}
	for _, tt := range tests {
		if got := reason(tt.err); got != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, tt.err, tt.want)
		}
	}
	if err := d.complete(ctx, id, 0); err != nil {
		t.Errorf("what was refused left something behind: %v", err)
	}
}

func TestABlockWrittenAgainCountsOnceAndHoldsWhatCameLast(t *testing.T) {
	d := newDisk(t)
	id := d.start(t)
	for _, n := range []byte{1, 2} {
		if err := d.put(t.Context(), id, 5, block(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.complete(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	d.await(t, id)
	if got := d.read(t, id)[5]; !bytes.Equal(got, block(2)) {
		t.Errorf("block 5 holds %d, want 2", got[0])
	}
}

// read reads all blocks of a snapshot, checking them.
func (d disk) read(t *testing.T, id string) map[int32][]byte {
	t.Helper()
	blocks := map[int32][]byte{}
	pages := ebs.NewListSnapshotBlocksPaginator(d.Client, &ebs.ListSnapshotBlocksInput{SnapshotId: &id, MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Blocks {
			out, err := d.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: b.BlockIndex, BlockToken: b.BlockToken})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(out.BlockData)
			if err != nil || *out.Checksum != checksum(data) || int(*out.DataLength) != len(data) {
				t.Fatalf("block %d: %d bytes, %v", *b.BlockIndex, len(data), err)
			}
			blocks[*b.BlockIndex] = data
		}
	}
	return blocks
}

func TestAChildHoldsItsParentsBlocksAndItsOwn(t *testing.T) {
	d := newDisk(t)
	many := map[int32]byte{0: 1, 1: 2, 2047: 3}
	for n := range int32(120) {
		many[100+n] = byte(n)
	}
	parent := d.filled(t, many)
	child := d.filled(t, map[int32]byte{1: 9, 7: 8}, func(in *ebs.StartSnapshotInput) { in.ParentSnapshotId = &parent })
	want := map[int32]byte{1: 9, 7: 8}
	for index, n := range many {
		if index != 1 {
			want[index] = n
		}
	}
	got := d.read(t, child)
	if len(got) != len(want) {
		t.Errorf("%d blocks, want %d", len(got), len(want))
	}
	for index, n := range want {
		if !bytes.Equal(got[index], block(n)) {
			t.Errorf("block %d is another", index)
		}
	}
	changed, err := d.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{FirstSnapshotId: &parent, SecondSnapshotId: &child})
	if err != nil {
		t.Fatal(err)
	}
	var indexes []int32
	for _, b := range changed.ChangedBlocks {
		indexes = append(indexes, *b.BlockIndex)
	}
	if !slices.Equal(indexes, []int32{1, 7}) || changed.ChangedBlocks[0].FirstBlockToken == nil || changed.ChangedBlocks[1].FirstBlockToken != nil {
		t.Errorf("changed blocks %v", indexes)
	}
	stranger := d.filled(t, nil)
	if _, err := d.ListChangedBlocks(t.Context(), &ebs.ListChangedBlocksInput{FirstSnapshotId: &stranger, SecondSnapshotId: &child}); reason(err) != "ValidationException UNRELATED_SNAPSHOTS" {
		t.Errorf("changes between strangers: %v", err)
	}
	if _, err := d.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &child, BlockIndex: aws.Int32(7), BlockToken: changed.ChangedBlocks[0].SecondBlockToken}); reason(err) != "ValidationException INVALID_BLOCK_TOKEN" {
		t.Errorf("another block's token: %v", err)
	}
}

func TestTheAggregatedChecksumIsOverTheBlocksInTheOrderOfTheirIndex(t *testing.T) {
	d := newDisk(t)
	id := d.start(t)
	var sums []byte
	for _, n := range []byte{3, 2, 1} { // sent backwards
		if err := d.put(t.Context(), id, int32(n), block(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []byte{1, 2, 3} {
		sum := sha256.Sum256(block(n))
		sums = append(sums, sum[:]...)
	}
	complete := func(checksum string) error {
		_, err := d.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{
			SnapshotId: &id, ChangedBlocksCount: aws.Int32(3), Checksum: &checksum,
			ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256, ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear,
		})
		return err
	}
	if err := complete(checksum(block(1))); reason(err) != "ValidationException INVALID_PARAMETER_VALUE" {
		t.Errorf("another checksum: %v", err)
	}
	if err := complete(checksum(sums)); err != nil {
		t.Error(err)
	}
}

func TestTheSameTokenStartsTheSameSnapshot(t *testing.T) {
	d := newDisk(t)
	token := func(in *ebs.StartSnapshotInput) { in.ClientToken = aws.String("token") }
	first := d.start(t, token)
	if again := d.start(t, token); again != first {
		t.Errorf("another snapshot, %s after %s", again, first)
	}
	if _, err := d.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(2), ClientToken: aws.String("token")}); reason(err) != "ConflictException" {
		t.Errorf("the token for another request: %v", err)
	}
	elsewhere := ebs.NewFromConfig(once(d.endpoint.In("eu-central-1")))
	if out, err := elsewhere.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ClientToken: aws.String("token")}); err != nil || *out.SnapshotId == first {
		t.Errorf("the token in another region: %v", err)
	}
}

func TestAHundredSnapshotsMayBePending(t *testing.T) {
	d := newDisk(t)
	for range 100 {
		d.start(t)
	}
	if _, err := d.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}); reason(err) != "ConcurrentLimitExceededException" {
		t.Errorf("the hundred-and-first: %v", err)
	}
}

func TestAnUploadGoesOnAfterTheLabWasKilled(t *testing.T) {
	dir := t.TempDir()
	var id string
	t.Run("before", func(t *testing.T) {
		d := newDisk(t, endpointtest.In(dir))
		parent := d.filled(t, map[int32]byte{3: 3})
		id = d.start(t, func(in *ebs.StartSnapshotInput) { in.ParentSnapshotId = &parent })
		if err := d.put(t.Context(), id, 0, block(1)); err != nil {
			t.Fatal(err)
		}
	})
	d := newDisk(t, endpointtest.In(dir))
	if err := d.put(t.Context(), id, 1, block(2)); err != nil {
		t.Fatal(err)
	}
	if err := d.complete(t.Context(), id, 2); err != nil {
		t.Fatal(err)
	}
	d.await(t, id)
	got := d.read(t, id)
	if len(got) != 3 || got[0][0] != 1 || got[1][0] != 2 || got[3][0] != 3 {
		t.Errorf("%d blocks", len(got))
	}
}

// raw sends a block as something else than the SDK would.
func (d disk) raw(t *testing.T, id string, data []byte, payload string) int {
	t.Helper()
	config := d.endpoint.Config()
	keys, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, d.endpoint.URL+"/snapshots/"+id+"/blocks/0", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"x-amz-data-length": fmt.Sprint(blockSize), "x-amz-checksum": checksum(data), "x-amz-checksum-algorithm": "SHA256", "x-amz-content-sha256": payload,
	} {
		r.Header.Set(name, value)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, r, payload, "ebs", config.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := config.HTTPClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

func TestASignedPayloadIsVerifiedAndAnUnsignedOneByItsChecksum(t *testing.T) {
	d := newDisk(t)
	id, data := d.start(t), block(1)
	hash := fmt.Sprintf("%x", sha256.Sum256(data))
	for payload, want := range map[string]int{
		hash: http.StatusCreated, "UNSIGNED-PAYLOAD": http.StatusCreated, strings.Repeat("0", 64): http.StatusForbidden,
	} {
		if got := d.raw(t, id, data, payload); got != want {
			t.Errorf("payload hash %s: %d, want %d", payload, got, want)
		}
	}
}
