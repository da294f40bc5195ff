package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// things are what the type Test::Thing makes, and all that was asked of it.
type things struct {
	mu      sync.Mutex
	there   map[string]map[string]any
	byToken map[string]string
	journal []string
	tokens  []string // of updates
	// before is called with each call, as "create A", and may fail it.
	before func(ctx context.Context, call string) error
}

type thing struct {
	Size   int
	Colour string
	Of     []string
	Nested *struct{ Kind, Text string }
	Tags   []struct{ Key, Value string }
}

func (t *things) types() []resource.Type {
	return []resource.Type{
		{Name: "Test::Thing", Properties: &thing{}, CreateOnly: []string{"Colour", "Nested.Kind"}, Attributes: []string{"Arn", "Of.All"}, Handler: t},
		{Name: "Test::Named", Properties: &thing{}, Required: []string{"Size"}, Handler: t},
		{Name: "AWS::IAM::Role", Properties: &struct{ RoleName string }{}, Handler: t},
	}
}

func (t *things) note(ctx context.Context, call string) error {
	t.mu.Lock()
	before := t.before
	t.journal = append(t.journal, call)
	t.mu.Unlock()
	if before != nil {
		return before(ctx, call)
	}
	return ctx.Err()
}

func (t *things) Create(ctx context.Context, r resource.Request) (string, error) {
	t.mu.Lock()
	id, ok := t.byToken[r.Token]
	if !ok {
		id = fmt.Sprintf("thing-%d", len(t.byToken)+1)
		t.byToken[r.Token], t.there[id] = id, r.Properties
	}
	t.mu.Unlock()
	return id, t.note(ctx, "create "+r.LogicalID)
}

func (t *things) Update(ctx context.Context, id string, r resource.Request) error {
	t.mu.Lock()
	_, ok := t.there[id]
	t.tokens = append(t.tokens, r.Token)
	t.mu.Unlock()
	if !ok {
		return resource.ErrNotFound
	}
	err := t.note(ctx, "update "+r.LogicalID)
	if err == nil {
		t.mu.Lock()
		t.there[id] = r.Properties
		t.mu.Unlock()
	}
	return err
}

func (t *things) Delete(ctx context.Context, id string, r resource.Request) error {
	err := t.note(ctx, "delete "+r.LogicalID)
	if err == nil {
		t.mu.Lock()
		delete(t.there, id)
		t.mu.Unlock()
	}
	return err
}

func (t *things) Ref(id string) string { return id }

func (t *things) Attribute(_ context.Context, id, name string) (any, error) {
	if name == "Of.All" {
		return []string{id, "more"}, nil
	}
	return "arn:" + id, nil
}

// said is the journal since the last time.
func (t *things) said() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := t.journal
	t.journal = nil
	return said
}

func (t *things) left() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.there)
}

// fails makes the calls fail.
func (t *things) fails(calls ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before = func(ctx context.Context, call string) error {
		if slices.Contains(calls, call) {
			return errors.New("it broke")
		}
		return ctx.Err()
	}
}

// world is a region with things, and a client of its CloudFormation.
type world struct {
	*cloudformation.Client
	t      *testing.T
	things *things
	path   string
	stacks *Stacks
	signal *Signals
	ssm    map[string]string
	server *httptest.Server
	stop   func()
}

type key struct{}

const role = "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-1"

func (key) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	arn := "arn:aws:iam::111122223333:user/admin"
	if id == "ASIA" {
		arn = role
	}
	return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", SessionToken: "t", ARN: arn}, nil
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, things: &things{there: map[string]map[string]any{}, byToken: map[string]string{}}, signal: &Signals{},
		path: filepath.Join(t.TempDir(), "stacks.json"), ssm: map[string]string{"/ami": "ami-0123456789abcdef0"},
	}
	w.server = httptest.NewUnstartedServer(nil)
	w.start()
	w.server.StartTLS()
	t.Cleanup(func() { w.server.Close(); w.stop() })
	w.Client = w.client("AKIA")
	return w
}

func (w *world) client(id string) *cloudformation.Client {
	return cloudformation.New(cloudformation.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(w.server.URL), HTTPClient: sdktest.Client(w.server), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(id, "secret", "t"),
	})
}

// start runs the engine from its record, as a new daemon does.
func (w *world) start(change ...func(*Stacks)) {
	w.t.Helper()
	w.stacks = &Stacks{
		Path: w.path, Plan: vpc.Default(), Types: w.things.types(), Now: time.Now, Logger: zaptest.NewLogger(w.t, zaptest.Level(zap.WarnLevel)),
		Parameter: func(name string) (string, bool) { v, ok := w.ssm[name]; return v, ok },
		ValueOf: func(_, value, attribute string) (string, error) {
			return attribute + " of " + value, nil
		},
	}
	for _, c := range change {
		c(w.stacks)
	}
	if err := w.stacks.Open(); err != nil {
		w.t.Fatal(err)
	}
	w.server.Config.Handler = wire.Endpoint{
		Services: []wire.Service{Service{w.stacks, w.signal}}, Keys: key{}, Regions: vpc.Default().Regions(), Now: time.Now, Logger: zap.NewNop(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.stacks.Run(ctx) })
	w.stop = func() { cancel(); running.Wait() }
}

// settled waits until nothing is under way for the stack and answers it.
func (w *world) settled(name string) *stack {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		st, ok := w.stacks.find(name)
		if !ok {
			for _, other := range w.stacks.all() {
				if other.Name == name {
					return other
				}
			}
			w.t.Fatalf("there is no stack %s", name)
		}
		if !busy(st.Status) && st.Operation == nil || st.Status == updateRollbackFailed {
			return st
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("stack %s is still %s: %s", name, st.Status, strings.Join(told(st), "\n"))
		}
		time.Sleep(time.Millisecond)
	}
}

// until waits for a status of a resource.
func (w *world) until(name, logical, status string) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if st, ok := w.stacks.find(name); ok && st.Resources[logical] != nil && st.Resources[logical].Status == status {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s of %s never was %s", logical, name, status)
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) create(name, body string, change ...func(*cloudformation.CreateStackInput)) *stack {
	w.t.Helper()
	in := &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &body}
	for _, c := range change {
		c(in)
	}
	if _, err := w.CreateStack(w.t.Context(), in); err != nil {
		w.t.Fatal(err)
	}
	return w.settled(name)
}

func (w *world) update(name, body string, change ...func(*cloudformation.UpdateStackInput)) *stack {
	w.t.Helper()
	in := &cloudformation.UpdateStackInput{StackName: &name, TemplateBody: &body}
	for _, c := range change {
		c(in)
	}
	if _, err := w.UpdateStack(w.t.Context(), in); err != nil {
		w.t.Fatal(err)
	}
	return w.settled(name)
}

func (w *world) remove(name string) *stack {
	w.t.Helper()
	if _, err := w.DeleteStack(w.t.Context(), &cloudformation.DeleteStackInput{StackName: &name}); err != nil {
		w.t.Fatal(err)
	}
	return w.settled(name)
}

func want(t *testing.T, st *stack, status string) {
	t.Helper()
	if st.Status != status {
		t.Fatalf("%s is %s (%s), want %s:\n%s", st.Name, st.Status, st.Reason, status, strings.Join(told(st), "\n"))
	}
}

// told is the events, the oldest first.
func told(st *stack) []string {
	var list []string
	for _, e := range st.Events {
		list = append(list, strings.TrimSpace(e.Logical+" "+e.Status+" "+e.Reason))
	}
	return list
}

func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}

func parameterOf(name, value string) types.Parameter {
	return types.Parameter{ParameterKey: &name, ParameterValue: &value}
}
