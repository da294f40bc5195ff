package logs

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// world is CloudWatch Logs over TLS, as the lab has it, with a clock of the test's own.
type world struct {
	t      *testing.T
	dir    string
	now    atomic.Int64 // milliseconds since 1970
	server *httptest.Server
	store  *Store
	// allowed are the actions that the policies of the role name.
	allowed []string
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.now.Store(time.Now().UnixMilli())
	w.restart()
	return w
}

func (w *world) clock() time.Time { return time.UnixMilli(w.now.Load()) }

func (w *world) restart() {
	w.t.Helper()
	w.store = &Store{Dir: w.dir, Now: w.clock}
	if err := w.store.Open(); err != nil {
		w.t.Fatal(err)
	}
	plan := vpc.Default()
	w.server = httptest.NewTLSServer(wire.Endpoint{
		Services: []wire.Service{Service{Plan: plan, Store: w.store, Allowed: func(_, action string) bool { return slices.Contains(w.allowed, action) }}},
		Keys: sdktest.Keys{
			"AKIAADMIN": {AccessKeyID: "AKIAADMIN", SecretAccessKey: "secret", ARN: plan.IAM("user/admin")},
			"ASIAROLE":  {AccessKeyID: "ASIAROLE", SecretAccessKey: "hush", SessionToken: "token", ARN: plan.AssumedRole("node", "i-0123456789abcdef0")},
		},
		Regions: plan.Regions(), Now: time.Now, Logger: zaptest.NewLogger(w.t),
	})
	w.t.Cleanup(w.server.Close)
}

func (w *world) client(region, key, secret, token string) *cloudwatchlogs.Client {
	return cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: region, BaseEndpoint: &w.server.URL, HTTPClient: sdktest.Client(w.server), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, token),
	})
}

func (w *world) admin() *cloudwatchlogs.Client {
	return w.client("us-west-2", "AKIAADMIN", "secret", "")
}

func (w *world) role() *cloudwatchlogs.Client {
	return w.client("us-west-2", "ASIAROLE", "hush", "token")
}

// group makes the group g with streams.
func (w *world) group(streams ...string) {
	w.t.Helper()
	_, err := w.admin().CreateLogGroup(w.t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g")})
	for _, s := range streams {
		if err == nil {
			_, err = w.admin().CreateLogStream(w.t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: &s})
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// at is an event so long after now.
func (w *world) at(after time.Duration, message string) types.InputLogEvent {
	return types.InputLogEvent{Timestamp: aws.Int64(w.clock().Add(after).UnixMilli()), Message: &message}
}

func (w *world) put(stream string, events ...types.InputLogEvent) *cloudwatchlogs.PutLogEventsOutput {
	w.t.Helper()
	out, err := w.admin().PutLogEvents(w.t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: &stream, LogEvents: events})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// get reads a stream of the group g.
func (w *world) get(stream string, change ...func(*cloudwatchlogs.GetLogEventsInput)) (string, *cloudwatchlogs.GetLogEventsOutput) {
	w.t.Helper()
	in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: &stream, StartFromHead: aws.Bool(true)}
	for _, c := range change {
		c(in)
	}
	out, err := w.admin().GetLogEvents(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	var messages []string
	for _, e := range out.Events {
		messages = append(messages, *e.Message)
	}
	return strings.Join(messages, " "), out
}

// filter searches the group g to the last page.
func (w *world) filter(change ...func(*cloudwatchlogs.FilterLogEventsInput)) (messages string, pages int) {
	w.t.Helper()
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g")}
	for _, c := range change {
		c(in)
	}
	var all []string
	for {
		out, err := w.admin().FilterLogEvents(w.t.Context(), in)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range out.Events {
			all = append(all, *e.Message)
		}
		if pages++; out.NextToken == nil {
			return strings.Join(all, " "), pages
		}
		in.NextToken = out.NextToken
	}
}

// refused fails the test unless the error has the code and a message with the words.
func refused(t *testing.T, err error, code, words string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("got %v, want %s: %s", err, code, words)
	}
}

func TestGroupsAndStreamsAreMadeOnceAndDescribedAndDeleted(t *testing.T) {
	w := start(t)
	ctx, c := t.Context(), w.admin()
	w.group("a/1", "b")
	_, err := c.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g")})
	refused(t, err, "ResourceAlreadyExistsException", "The specified log group already exists")
	_, err = c.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("b")})
	refused(t, err, "ResourceAlreadyExistsException", "The specified log stream already exists")
	if _, err := c.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(30)}); err != nil {
		t.Fatal(err)
	}
	w.put("a/1", w.at(-time.Second, "four"), w.at(0, "five"))
	groups, err := c.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("g")})
	if err != nil || len(groups.LogGroups) != 1 {
		t.Fatalf("%+v, %v", groups, err)
	}
	if g := groups.LogGroups[0]; *g.Arn != "arn:aws:logs:us-west-2:111122223333:log-group:g:*" || *g.LogGroupArn != "arn:aws:logs:us-west-2:111122223333:log-group:g" ||
		*g.RetentionInDays != 30 || *g.StoredBytes != 2*26+8 || *g.CreationTime != w.now.Load() || g.LogGroupClass != types.LogGroupClassStandard {
		t.Errorf("%+v", g)
	}
	streams, err := c.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{
		LogGroupIdentifier: groups.LogGroups[0].LogGroupArn, OrderBy: types.OrderByLastEventTime, Descending: aws.Bool(true),
	})
	if err != nil || len(streams.LogStreams) != 2 {
		t.Fatalf("%+v, %v", streams, err)
	}
	if s := streams.LogStreams[0]; *s.LogStreamName != "a/1" || *s.Arn != "arn:aws:logs:us-west-2:111122223333:log-group:g:log-stream:a/1" ||
		*s.FirstEventTimestamp != w.now.Load()-1000 || *s.LastEventTimestamp != w.now.Load() || *s.LastIngestionTime != w.now.Load() {
		t.Errorf("%+v", s)
	}
	if s := streams.LogStreams[1]; s.FirstEventTimestamp != nil || s.LastEventTimestamp != nil {
		t.Errorf("a stream without events: %+v", s)
	}
	if _, err := c.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String("g")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String("g")})
	refused(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	w.group("a/1")
	if all, _ := w.get("a/1"); all != "" {
		t.Errorf("a stream that is made again has %q", all)
	}
}

func TestRegionsAreKeptApart(t *testing.T) {
	w := start(t)
	w.group("s")
	other := w.client("us-east-1", "AKIAADMIN", "secret", "")
	if out, err := other.DescribeLogGroups(t.Context(), nil); err != nil || len(out.LogGroups) != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	_, err := other.GetLogEvents(t.Context(), &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")})
	refused(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	_, err = other.GetLogEvents(t.Context(), &cloudwatchlogs.GetLogEventsInput{
		LogGroupIdentifier: aws.String("arn:aws:logs:us-west-2:111122223333:log-group:g"), LogStreamName: aws.String("s"),
	})
	refused(t, err, "ResourceNotFoundException", "The specified log group does not exist.")
	if _, err := other.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g")}); err != nil {
		t.Error(err)
	}
}

func TestDescriptionsComeInPages(t *testing.T) {
	w := start(t)
	w.group()
	for i := range 5 {
		if err := errors.Join(w.store.create(group{Region: "us-west-2", Name: fmt.Sprint("more/", i)}), w.store.createStream("us-west-2", "g", fmt.Sprint("s", i))); err != nil {
			t.Fatal(err)
		}
	}
	var groups, streams []string
	ofGroups := cloudwatchlogs.NewDescribeLogGroupsPaginator(w.admin(), &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePattern: aws.String("ore"), Limit: aws.Int32(2)})
	for ofGroups.HasMorePages() {
		page, err := ofGroups.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page.LogGroups {
			groups = append(groups, *g.LogGroupName)
		}
	}
	ofStreams := cloudwatchlogs.NewDescribeLogStreamsPaginator(w.admin(), &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), Descending: aws.Bool(true), Limit: aws.Int32(2)})
	for ofStreams.HasMorePages() {
		page, err := ofStreams.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.LogStreams {
			streams = append(streams, *s.LogStreamName)
		}
	}
	if got := strings.Join(append(groups, streams...), " "); got != "more/0 more/1 more/2 more/3 more/4 s4 s3 s2 s1 s0" {
		t.Errorf("%s", got)
	}
	first, err := w.admin().DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{Limit: aws.Int32(2)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.admin().DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{NextToken: first.NextToken, LogGroupNamePrefix: aws.String("more")})
	refused(t, err, "InvalidParameterException", "The specified nextToken is invalid.")
}

func TestARoleMayDoWhatItsPoliciesName(t *testing.T) {
	w := start(t)
	w.group("s")
	put := &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: []types.InputLogEvent{w.at(0, "hello")}}
	tagged := &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("tagged"), Tags: map[string]string{"a": "b"}}
	_, err := w.role().PutLogEvents(t.Context(), put)
	refused(t, err, "AccessDeniedException", "assumed-role/node/i-0123456789abcdef0 is not authorized to perform: logs:PutLogEvents")
	w.allowed = []string{"logs:PutLogEvents", "logs:CreateLogGroup"}
	if _, err := w.role().PutLogEvents(t.Context(), put); err != nil {
		t.Error(err)
	}
	_, err = w.role().CreateLogGroup(t.Context(), tagged)
	refused(t, err, "AccessDeniedException", "logs:TagResource")
	w.allowed = append(w.allowed, "logs:TagResource")
	if _, err := w.role().CreateLogGroup(t.Context(), tagged); err != nil {
		t.Error(err)
	}
	_, err = w.role().DescribeLogGroups(t.Context(), nil)
	refused(t, err, "AccessDeniedException", "logs:DescribeLogGroups")
}
