package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"go.uber.org/zap"
)

// Client is CloudWatch Logs, as far as logs are sent to it.
type Client interface {
	CreateLogGroup(context.Context, *cloudwatchlogs.CreateLogGroupInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogGroupOutput, error)
	CreateLogStream(context.Context, *cloudwatchlogs.CreateLogStreamInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error)
	PutLogEvents(context.Context, *cloudwatchlogs.PutLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error)
}

// What is sent at a time. PutLogEvents takes twice the bytes, with 26 for each event, and since 2025
// larger events (API reference).
const (
	mostEvents   = 10_000
	mostTime     = 24 * time.Hour
	mostBytes    = 512 << 10
	eventBytes   = 26
	largestEvent = 256<<10 - eventBytes
)

// deliver sends lines to a log's stream, which it makes if need be.
func (s *Shipper) deliver(ctx context.Context, l Log, lines []Line) error {
	for _, batch := range batches(lines) {
		err := s.put(ctx, l, batch)
		var missing *types.ResourceNotFoundException
		if errors.As(err, &missing) {
			if err = s.prepare(ctx, l); err == nil {
				err = s.put(ctx, l, batch)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Shipper) put(ctx context.Context, l Log, batch []types.InputLogEvent) error {
	out, err := s.Client.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: &l.Group, LogStreamName: &l.Stream, LogEvents: batch})
	if err != nil {
		return err
	}
	if refused := out.RejectedLogEventsInfo; refused != nil {
		s.Log.Warn("CloudWatch refused lines for their time", zap.String("group", l.Group), zap.String("stream", l.Stream),
			zap.Int32p("too_old_before", refused.TooOldLogEventEndIndex), zap.Int32p("expired_before", refused.ExpiredLogEventEndIndex),
			zap.Int32p("too_new_from", refused.TooNewLogEventStartIndex), zap.Int("of", len(batch)))
	}
	return nil
}

// prepare makes a log's stream, and its group if that is not somebody else's to make.
func (s *Shipper) prepare(ctx context.Context, l Log) error {
	err := s.makeStream(ctx, l)
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) {
		return err
	}
	if !l.MakeGroup {
		return fmt.Errorf("there is no such group: make it, or name another (%w)", err)
	}
	if _, err := s.Client.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &l.Group}); err != nil && !exists(err) {
		return err
	}
	return s.makeStream(ctx, l)
}

func (s *Shipper) makeStream(ctx context.Context, l Log) error {
	_, err := s.Client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &l.Group, LogStreamName: &l.Stream})
	if exists(err) {
		return nil
	}
	return err
}

func exists(err error) bool {
	var there *types.ResourceAlreadyExistsException
	return errors.As(err, &there)
}

// batches are lines as CloudWatch takes them: in the order of time, none of them empty, and no batch
// too large or too long.
func batches(lines []Line) [][]types.InputLogEvent {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b Line) int { return a.Time.Compare(b.Time) })
	var all [][]types.InputLogEvent
	var batch []types.InputLogEvent
	var first time.Time
	size := 0
	for _, line := range lines {
		text := valid(line.Text)
		if text == "" {
			continue
		}
		if len(batch) == mostEvents || size+len(text)+eventBytes > mostBytes || line.Time.Sub(first) >= mostTime {
			all, batch, size = append(all, batch), nil, 0
		}
		if len(batch) == 0 {
			first = line.Time
		}
		size += len(text) + eventBytes
		batch = append(batch, types.InputLogEvent{Timestamp: aws.Int64(line.Time.UnixMilli()), Message: &text})
	}
	all = append(all, batch)
	return slices.DeleteFunc(all, func(batch []types.InputLogEvent) bool { return len(batch) == 0 })
}

// valid is text as CloudWatch takes it: UTF-8, and not too long.
func valid(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > largestEvent {
		text = strings.ToValidUTF8(text[:largestEvent], "")
	}
	return text
}
