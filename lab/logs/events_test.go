package logs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

type (
	getInput    = cloudwatchlogs.GetLogEventsInput
	filterInput = cloudwatchlogs.FilterLogEventsInput
)

func TestAStreamIsReadInBothDirectionsToWhereItEnds(t *testing.T) {
	w := start(t)
	w.group("s")
	w.put("s", w.at(-4*time.Second, "a"), w.at(-3*time.Second, "b"), w.at(-2*time.Second, "c"))
	w.put("s", w.at(-5*time.Second, "late"), w.at(-3*time.Second, "b2"))
	limit := func(n int32) func(*getInput) { return func(in *getInput) { in.Limit = &n } }
	from := func(token *string) func(*getInput) { return func(in *getInput) { in.NextToken = token } }
	tail := func(in *getInput) { in.StartFromHead = nil }

	got, page := w.get("s", limit(2))
	if got != "late a" {
		t.Errorf("the head is %q", got)
	}
	got, page = w.get("s", limit(3), from(page.NextForwardToken))
	if got != "b b2 c" {
		t.Errorf("then comes %q", got)
	}
	end := page.NextForwardToken
	got, page = w.get("s", from(end))
	if got != "" || *page.NextForwardToken != *end {
		t.Errorf("at the end there is %q, and a token %s, not %s", got, *page.NextForwardToken, *end)
	}
	if got, _ = w.get("s", from(page.NextBackwardToken)); got != "late a b b2 c" {
		t.Errorf("back from the end there is %q", got)
	}
	w.put("s", w.at(0, "d"))
	if got, _ = w.get("s", from(end)); got != "d" {
		t.Errorf("what has come in since is %q", got)
	}

	got, page = w.get("s", tail, limit(4))
	if got != "b b2 c d" {
		t.Errorf("the tail is %q", got)
	}
	got, page = w.get("s", tail, limit(4), from(page.NextBackwardToken))
	if got != "late a" {
		t.Errorf("before it there is %q", got)
	}
	head := page.NextBackwardToken
	got, page = w.get("s", tail, from(head))
	if got != "" || *page.NextBackwardToken != *head {
		t.Errorf("at the beginning there is %q, and a token %s, not %s", got, *page.NextBackwardToken, *head)
	}
	if got, _ = w.get("s", from(page.NextForwardToken)); got != "late a b b2 c d" {
		t.Errorf("forward from the beginning there is %q", got)
	}
	if got, _ = w.get("s", func(in *getInput) {
		in.StartTime, in.EndTime = w.at(-4*time.Second, "").Timestamp, w.at(-2*time.Second, "").Timestamp
	}); got != "a b b2" {
		t.Errorf("between two times there is %q", got)
	}
}

func TestAStreamWithoutEventsIsFollowedFromItsBeginning(t *testing.T) {
	w := start(t)
	w.group("head", "tail")
	for stream, head := range map[string]bool{"head": true, "tail": false} {
		_, page := w.get(stream, func(in *getInput) { in.StartFromHead = &head })
		w.put(stream, w.at(0, "x"))
		if got, _ := w.get(stream, func(in *getInput) { in.NextToken = page.NextForwardToken }); got != "x" {
			t.Errorf("from the %s there came %q", stream, got)
		}
	}
}

func TestAPageHoldsAMebibyte(t *testing.T) {
	w := start(t)
	w.group("s")
	for range 3 {
		w.put("s", w.at(0, strings.Repeat("x", 400<<10)))
	}
	pages := cloudwatchlogs.NewGetLogEventsPaginator(w.admin(), &getInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), StartFromHead: aws.Bool(true)},
		func(o *cloudwatchlogs.GetLogEventsPaginatorOptions) { o.StopOnDuplicateToken = true })
	var sizes []int
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Events))
	}
	if len(sizes) != 3 || sizes[0] != 2 || sizes[1] != 1 || sizes[2] != 0 {
		t.Errorf("the pages have %v events", sizes)
	}
	if all, pages := w.filter(); len(all) != 3*400<<10+2 || pages != 2 {
		t.Errorf("a search has %d bytes in %d pages", len(all), pages)
	}
}

func TestASearchGoesThroughAllStreamsInTheOrderOfTime(t *testing.T) {
	w := start(t)
	w.group("a/1", "a/2", "b")
	w.put("a/1", w.at(-4*time.Second, "disk"), w.at(-2*time.Second, "no"))
	w.put("a/2", w.at(-3*time.Second, "disk_full"), w.at(-1*time.Second, "disk(no such file)"))
	w.put("b", w.at(-3*time.Second, "DISK"))
	since := func(in *filterInput) { in.StartTime = w.at(-time.Minute, "").Timestamp }
	for name, tt := range map[string]struct {
		change func(*filterInput)
		want   string
		pages  int
	}{
		"everything":    {func(*filterInput) {}, "disk disk_full DISK no disk(no such file)", 1},
		"page by page":  {func(in *filterInput) { in.Limit = aws.Int32(2) }, "disk disk_full DISK no disk(no such file)", 3},
		"from the tail": {func(in *filterInput) { since(in); in.StartFromHead, in.Limit = aws.Bool(false), aws.Int32(2) }, "disk(no such file) no DISK disk_full disk", 3},
		"a term":        {func(in *filterInput) { in.FilterPattern = aws.String("disk") }, "disk disk_full disk(no such file)", 1},
		"all terms":     {func(in *filterInput) { in.FilterPattern = aws.String(` disk  "no such"`) }, "disk(no such file)", 1},
		"a prefix":      {func(in *filterInput) { in.LogStreamNamePrefix = aws.String("a/") }, "disk disk_full no disk(no such file)", 1},
		"named streams": {func(in *filterInput) { in.LogStreamNames = []string{"a/1", "b"} }, "disk DISK no", 1},
		"between times": {func(in *filterInput) {
			in.StartTime, in.EndTime = w.at(-3*time.Second, "").Timestamp, w.at(-2*time.Second, "").Timestamp
		}, "disk_full DISK no", 1},
		"nothing":        {func(in *filterInput) { in.FilterPattern = aws.String("gone") }, "", 1},
		"an exact limit": {func(in *filterInput) { in.Limit = aws.Int32(5) }, "disk disk_full DISK no disk(no such file)", 1},
	} {
		if got, pages := w.filter(tt.change); got != tt.want || pages != tt.pages {
			t.Errorf("%s: %q in %d pages", name, got, pages)
		}
	}
	out, err := w.admin().FilterLogEvents(t.Context(), &filterInput{LogGroupName: aws.String("g"), Limit: aws.Int32(1)})
	if err != nil || *out.Events[0].LogStreamName != "a/1" || len(*out.Events[0].EventId) != 56 || *out.Events[0].IngestionTime != w.now.Load() {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestEventsThatAreTooOldOrTooNewAreRejectedAndTheOthersStored(t *testing.T) {
	w := start(t)
	w.group("s")
	out := w.put("s", w.at(-15*24*time.Hour, "old"), w.at(-14*24*time.Hour-time.Millisecond, "old too"), w.at(-time.Hour, "ok"), w.at(2*time.Hour, "ok too"), w.at(2*time.Hour+time.Millisecond, "new"))
	if r := out.RejectedLogEventsInfo; r == nil || *r.TooOldLogEventEndIndex != 2 || *r.TooNewLogEventStartIndex != 4 || r.ExpiredLogEventEndIndex != nil {
		t.Errorf("%+v", r)
	}
	if got, _ := w.get("s"); got != "ok ok too" {
		t.Errorf("stored are %q", got)
	}
	if _, err := w.admin().PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	out = w.put("s", w.at(-25*time.Hour, "expired"))
	if r := out.RejectedLogEventsInfo; r == nil || *r.ExpiredLogEventEndIndex != 1 || r.TooOldLogEventEndIndex != nil {
		t.Errorf("%+v", r)
	}
	if out := w.put("s", w.at(0, "fine")); out.RejectedLogEventsInfo != nil || out.NextSequenceToken == nil {
		t.Errorf("%+v", out)
	}
	w.now.Add((24*time.Hour - time.Minute).Milliseconds())
	if got, _ := w.get("s"); got != "fine ok too" {
		t.Errorf("a day later there is %q", got)
	}
	w.now.Add((2 * time.Minute).Milliseconds())
	if got, _ := w.filter(); got != "ok too" {
		t.Errorf("two minutes later there is %q", got)
	}
	if _, err := w.admin().DeleteRetentionPolicy(t.Context(), &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: aws.String("g")}); err != nil {
		t.Fatal(err)
	}
	if out := w.put("s", w.at(-25*time.Hour, "again")); out.RejectedLogEventsInfo != nil {
		t.Errorf("without a retention: %+v", out.RejectedLogEventsInfo)
	}
}

func TestARestartKeepsEverythingButALineThatWasNotFinished(t *testing.T) {
	w := start(t)
	w.group("s", "empty")
	message := "zwölf <Boxkämpfer>\n\ttab \"quoted\" \u2028"
	w.put("s", w.at(-time.Second, message))
	_, page := w.get("s")
	files, err := filepath.Glob(filepath.Join(w.dir, "*"+suffix))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, w.store.record()) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	data, err := os.ReadFile(files[0])
	orphan := filepath.Join(w.dir, "gone"+suffix)
	if err := errors.Join(err, os.WriteFile(files[0], append(data, data[:len(data)/2]...), 0o600), os.WriteFile(orphan, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got, _ := w.get("s"); got != message {
		t.Errorf("%q", got)
	}
	w.put("s", w.at(0, "more"))
	if got, _ := w.get("s", func(in *getInput) { in.NextToken = page.NextForwardToken }); got != "more" {
		t.Errorf("after the token of before: %q", got)
	}
	if _, err := os.Stat(orphan); err == nil {
		t.Error("the file of no stream is there")
	}
	w.restart()
	if got, _ := w.filter(); got != message+" more" {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(files[0], []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Store{Dir: w.dir, Now: w.clock}).Open(); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a file that is spoilt: %v", err)
	}
}

func TestABatchHasLimitsThatTheEndpointsAreBelow(t *testing.T) {
	now := time.Now()
	of := func(sizes ...int) (events []event) {
		for _, n := range sizes {
			events = append(events, event{place: place{Time: now.UnixMilli()}, Message: strings.Repeat("x", n)})
		}
		return events
	}
	for _, tt := range []struct {
		batch []event
		want  string
	}{
		{of(maxEvent - overhead), ""},
		{of(maxEvent - overhead + 1), "Log event too large: 1048577 bytes exceeds limit of 1048576"},
		{of(maxBatch/2-overhead, maxBatch/2-overhead), ""},
		{of(maxBatch/2-overhead, maxBatch/2-overhead+1), "Upload too large: 1048577 bytes exceeds limit of 1048576"},
	} {
		if _, _, err := accept(tt.batch, now, group{}); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestASpanIsThatOfTheEventsThatAreStored(t *testing.T) {
	w := start(t)
	w.group("s")
	w.put("s", w.at(-20*24*time.Hour, "old"), w.at(-24*time.Hour, "a"), w.at(0, "b"))
	_, err := w.admin().PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{
		LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: []types.InputLogEvent{w.at(-24*time.Hour-time.Millisecond, "a"), w.at(0, "b")},
	})
	refused(t, err, "InvalidParameterException", "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
}
