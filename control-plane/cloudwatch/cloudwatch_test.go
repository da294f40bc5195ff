package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fake is CloudWatch Logs in memory: streams by "group stream".
type fake struct {
	mu      sync.Mutex
	groups  map[string]bool
	streams map[string][]string
	fail    error
}

func newFake(groups ...string) *fake {
	f := &fake{groups: map[string]bool{}, streams: map[string][]string{}}
	for _, group := range groups {
		f.groups[group] = true
	}
	return f
}

func (f *fake) CreateLogGroup(_ context.Context, in *cloudwatchlogs.CreateLogGroupInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogGroupOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.groups[*in.LogGroupName] {
		return nil, &types.ResourceAlreadyExistsException{}
	}
	f.groups[*in.LogGroupName] = true
	return &cloudwatchlogs.CreateLogGroupOutput{}, nil
}

func (f *fake) CreateLogStream(_ context.Context, in *cloudwatchlogs.CreateLogStreamInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.groups[*in.LogGroupName] {
		return nil, &types.ResourceNotFoundException{}
	}
	f.streams[*in.LogGroupName+" "+*in.LogStreamName] = []string{}
	return &cloudwatchlogs.CreateLogStreamOutput{}, nil
}

func (f *fake) PutLogEvents(_ context.Context, in *cloudwatchlogs.PutLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := *in.LogGroupName + " " + *in.LogStreamName
	if f.fail != nil {
		return nil, f.fail
	}
	if f.streams[name] == nil {
		return nil, &types.ResourceNotFoundException{}
	}
	for _, e := range in.LogEvents {
		f.streams[name] = append(f.streams[name], *e.Message)
	}
	return &cloudwatchlogs.PutLogEventsOutput{}, nil
}

// stage is a shipper of one file, whose rounds the test makes.
type stage struct {
	*Shipper
	t    *testing.T
	sent *fake
	path string
	said *observer.ObservedLogs
}

const stream = "g s"

func newStage(t *testing.T) *stage {
	core, said := observer.New(zap.InfoLevel)
	dir := t.TempDir()
	s := &stage{t: t, sent: newFake("g"), path: filepath.Join(dir, "run", "c.log"), said: said}
	if err := os.Mkdir(filepath.Dir(s.path), 0o700); err != nil {
		t.Fatal(err)
	}
	s.Shipper = &Shipper{positions: map[string]Position{}, Options: Options{
		Client: s.sent, Path: filepath.Join(dir, "positions.json"), Log: zap.New(core),
		Logs: func(context.Context) ([]Log, error) {
			return []Log{{Group: "g", Stream: "s", Source: File{s.path}}}, nil
		},
	}}
	return s
}

// tick waits until what is written next has a later time.
func (s *stage) tick() {
	s.t.Helper()
	var times [2]time.Time
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		for i := range times {
			if err := os.WriteFile(filepath.Join(filepath.Dir(s.Path), "tick"), nil, 0o600); err != nil {
				s.t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(filepath.Dir(s.Path), "tick"))
			if err != nil {
				s.t.Fatal(err)
			}
			times[i] = info.ModTime()
		}
		if times[1].After(times[0]) {
			return
		}
	}
}

// again is the shipper of a new process.
func (s *stage) again() {
	s.Shipper = &Shipper{Options: s.Options, positions: map[string]Position{}}
	if err := s.load(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) write(text string) {
	s.t.Helper()
	file, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteString(text)
	}
	if err != nil || file.Close() != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) rename(from, to string) {
	s.t.Helper()
	if err := os.Rename(from, to); err != nil {
		s.t.Fatal(err)
	}
}

// copied rotates as who may not close the writer's file does.
func (s *stage) copied(to string) {
	s.t.Helper()
	s.tick()
	data, err := os.ReadFile(s.path)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err == nil {
		err = os.Truncate(s.path, 0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// want makes a round, after which the stream has these lines.
func (s *stage) want(lines ...string) {
	s.t.Helper()
	if err := s.round(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if got := s.sent.streams[stream]; !slices.Equal(got, lines) {
		s.t.Fatalf("the stream has %q, want %q", got, lines)
	}
}

func TestAFileIsFollowedThroughRotationsAndRestarts(t *testing.T) {
	for name, rotate := range map[string]func(s *stage){
		"renamed":                func(s *stage) { s.rename(s.path, s.path+".1") },
		"renamed by the time":    func(s *stage) { s.rename(s.path, strings.TrimSuffix(s.path, ".log")+"-2026-11-27T23-34-43.123.log") },
		"renamed and begun anew": func(s *stage) { s.rename(s.path, s.path+".1"); s.write("") },
		"copied and emptied":     func(s *stage) { s.copied(s.path + ".1") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.want() // there is no file yet
			s.write("one\ntwo\nhal")
			s.want("one", "two")
			s.write("f\n\nthree\r\n")
			s.want("one", "two", "half", "three")
			s.again()
			s.write("unsent\nwithout an end")
			rotate(s)
			s.write("new\n")
			s.want("one", "two", "half", "three", "unsent", "without an end", "new")
			s.again()
			s.write("newer\n")
			s.want("one", "two", "half", "three", "unsent", "without an end", "new", "newer")
		})
	}
}

// CloudWatch may be away for longer than one file lasts.
func TestAFileIsFollowedThroughManyRotations(t *testing.T) {
	for name, rotate := range map[string]func(s *stage, to string){
		"renamed": func(s *stage, to string) { s.rename(s.path, to) },
		"copied":  (*stage).copied,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			// Logs that are called alike are others.
			for _, other := range []string{"-audit.log", "-audit.log.1", ".log.new"} {
				if err := os.WriteFile(strings.TrimSuffix(s.path, ".log")+other, []byte("another\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.write("sent\n")
			s.want("sent")
			for i := range 3 {
				s.tick()
				s.write(fmt.Sprintf("unsent %d\n", i))
				for n := 2; n > 0; n-- {
					if from := fmt.Sprintf("%s.%d", s.path, n); i >= n {
						s.rename(from, fmt.Sprintf("%s.%d", s.path, n+1))
					}
				}
				s.tick()
				rotate(s, s.path+".1")
			}
			s.tick()
			s.write("new\n")
			s.want("sent", "unsent 0", "unsent 1", "unsent 2", "new")
			s.again()
			s.want("sent", "unsent 0", "unsent 1", "unsent 2", "new")
		})
	}
}

func TestWhatIsLostIsSaid(t *testing.T) {
	for name, lose := range map[string]func(s *stage){
		"renamed, and that removed": func(s *stage) {
			s.rename(s.path, s.path+".old")
			s.write("new\n")
			if err := os.Remove(s.path + ".old"); err != nil {
				t.Fatal(err)
			}
		},
		"emptied":      func(s *stage) { s.copied(s.path + ".away"); s.write("new\n") },
		"copied twice": func(s *stage) { s.copied(s.path + ".1"); s.write("ne"); s.copied(s.path + ".1"); s.write("w\n") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.write("one, which is longer\n")
			s.want("one, which is longer")
			s.write("never sent\n")
			lose(s)
			if err := s.round(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.sent.streams[stream]; len(got) < 3 || got[1] != lost || strings.Join(got[2:], "") != "new" {
				t.Errorf("the stream has %q", got)
			}
		})
	}
}

func TestWhatIsLongComesInPieces(t *testing.T) {
	s := newStage(t)
	long := strings.Repeat("x", 3*chunk/2)
	var lines []string
	for i := range 4000 {
		lines = append(lines, fmt.Sprintf("%d %s", i, strings.Repeat("y", i%300)))
	}
	s.write(long + "\n" + strings.Join(lines, "\n") + "\n")
	s.want(append([]string{long[:chunk], long[chunk:]}, lines...)...)
}

func TestAFailureHoldsLinesBackAndNoOtherLogUp(t *testing.T) {
	s := newStage(t)
	one := s.Logs
	s.Logs = func(ctx context.Context) ([]Log, error) {
		logs, _ := one(ctx)
		gone := Log{Group: "not there", Stream: "s", Source: File{s.path}}
		return append([]Log{gone}, logs...), errors.New("the registry is away")
	}
	s.write("one\n")
	for range 3 {
		err := s.round(t.Context())
		s.tell(err)
		if err == nil || err.Error() != "the registry is away" {
			t.Fatalf("got %v", err)
		}
	}
	if got := s.sent.streams[stream]; !slices.Equal(got, []string{"one"}) {
		t.Errorf("the other log has %q", got)
	}
	s.Logs = one
	s.tell(s.round(t.Context()))
	s.sent.fail = errors.New("CloudWatch is away")
	s.write("two\n")
	for range 2 {
		s.tell(s.round(t.Context()))
	}
	s.told = s.told.Add(-2 * sayAgain)
	s.tell(s.round(t.Context()))
	s.sent.fail = nil
	s.again()
	s.want("one", "two")
	var said []string
	for _, entry := range s.said.All() {
		said = append(said, fmt.Sprintf("%s: %v", entry.Message, entry.ContextMap()["error"]))
	}
	if want := []string{
		"logs do not reach CloudWatch, and follow later: the registry is away",
		"logs reach CloudWatch again: <nil>",
		"logs do not reach CloudWatch, and follow later: stream s of log group g: CloudWatch is away",
		"logs do not reach CloudWatch, and follow later: stream s of log group g: CloudWatch is away",
	}; !slices.Equal(said, want) {
		t.Errorf("the log says %q", said)
	}
}

func TestAGroupIsMadeOnlyWhereItMayBe(t *testing.T) {
	s := newStage(t)
	s.write("one\n")
	s.Logs = func(context.Context) ([]Log, error) {
		return []Log{{Group: "theirs", Stream: "s", Source: File{s.path}}, {Group: "ours", Stream: "s", MakeGroup: true, Source: File{s.path}}}, nil
	}
	if err := s.round(t.Context()); err == nil || !strings.Contains(err.Error(), "stream s of log group theirs: there is no such group") {
		t.Errorf("got %v", err)
	}
	if got := s.sent.streams["ours s"]; !slices.Equal(got, []string{"one"}) || s.sent.groups["theirs"] {
		t.Errorf("groups %v, ours has %q", s.sent.groups, got)
	}
}

func TestPositionsOfWhatIsGoneAreForgotten(t *testing.T) {
	s := newStage(t)
	s.write("one\n")
	s.want("one")
	all := s.Logs
	s.Logs = func(context.Context) ([]Log, error) { return nil, nil }
	s.positions["g journal of another machine"] = Position{Cursor: "c"}
	s.want("one")
	if len(s.positions) != 1 || s.positions[stream].Path == "" {
		t.Errorf("%v stayed, want the log that may come back", s.positions)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s.want("one")
	if len(s.positions) != 0 {
		t.Errorf("%v stayed", s.positions)
	}
	s.Logs = all
	s.write("another\n")
	s.want("one", "another")
}

func TestPositionsThatCannotBeReadAreBegunAnew(t *testing.T) {
	s := newStage(t)
	if err := os.WriteFile(s.Path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("one\n")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { Run(ctx, s.Options); close(ended) }()
	for deadline := time.Now().Add(time.Minute); ; {
		s.sent.mu.Lock()
		got := slices.Clone(s.sent.streams[stream])
		s.sent.mu.Unlock()
		if slices.Equal(got, []string{"one"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stream has %q", got)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
	if s.said.FilterMessage("begin every log anew").Len() != 1 {
		t.Errorf("the log says %v", s.said.All())
	}
}

func TestBatchesAreWhatCloudWatchTakes(t *testing.T) {
	start := time.UnixMilli(1_800_000_000_000)
	var lines []Line
	for i := range mostEvents + 5 {
		lines = append(lines, Line{start.Add(time.Duration(i%7) * time.Millisecond), "x"})
	}
	lines = append(lines,
		Line{start.Add(mostTime), "a day later"}, Line{start, ""}, Line{start, "\xff"},
		Line{start, strings.Repeat("€", largestEvent)}, Line{start, strings.Repeat("z", largestEvent)}, Line{start, strings.Repeat("z", largestEvent)})
	events := 0
	for i, batch := range batches(lines) {
		size := 0
		for j, e := range batch {
			size += len(*e.Message) + eventBytes
			if *e.Message == "" || len(*e.Message) > largestEvent || strings.ToValidUTF8(*e.Message, "") != *e.Message {
				t.Errorf("batch %d has a message of %d bytes", i, len(*e.Message))
			}
			if j > 0 && *e.Timestamp < *batch[j-1].Timestamp {
				t.Fatalf("batch %d is out of order", i)
			}
		}
		if events += len(batch); len(batch) > mostEvents || size > mostBytes || *batch[len(batch)-1].Timestamp-*batch[0].Timestamp >= mostTime.Milliseconds() {
			t.Errorf("batch %d has %d events of %d bytes", i, len(batch), size)
		}
	}
	if want := len(lines) - 1; events != want {
		t.Errorf("%d events, want %d", events, want)
	}
}
