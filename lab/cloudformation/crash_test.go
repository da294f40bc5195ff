package cloudformation

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// dieAt makes the daemon end within the nth call, before or after the call has done its work.
func (w *world) dieAt(n int, fail ...string) (died <-chan struct{}) {
	reached := make(chan struct{})
	calls := 0
	w.things.before = func(ctx context.Context, call string) error {
		w.things.mu.Lock()
		calls++
		now := calls == n
		w.things.mu.Unlock()
		if now {
			close(reached)
			<-ctx.Done()
			return ctx.Err()
		}
		for _, f := range fail {
			if f == call {
				return fmt.Errorf("it broke")
			}
		}
		return ctx.Err()
	}
	return reached
}

func TestANewDaemonCarriesOnWhateverStepTheLastDiedIn(t *testing.T) {
	more := strings.Replace(chain, "Outputs:", "  D: {Type: Test::Thing, DependsOn: [B, C]}\nOutputs:", 1)
	tests := []struct {
		name   string
		fail   []string
		steps  int
		first  bool // the stack is there before
		begin  func(w *world) error
		status string
		left   int
	}{
		{"a creation", nil, 3, false, creating(chain), createComplete, 3},
		{"a creation that fails", []string{"create C"}, 6, false, creating(chain), rollbackComplete, 0},
		{"an update", nil, 4, true, updating(more, "green"), updateComplete, 4},
		{"an update that fails", []string{"create D"}, 6, true, updating(more, "green"), updateRollbackComplete, 3},
		{"a deletion", nil, 3, true, func(w *world) error {
			_, err := w.DeleteStack(w.t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("s")})
			return err
		}, deleteComplete, 0},
	}
	for _, tt := range tests {
		for step := 1; step <= tt.steps; step++ {
			t.Run(fmt.Sprintf("%s/%d", tt.name, step), func(t *testing.T) {
				w := newWorld(t)
				if tt.first {
					want(t, w.create("s", chain), createComplete)
				}
				died := w.dieAt(step, tt.fail...)
				if err := tt.begin(w); err != nil {
					t.Fatal(err)
				}
				<-died
				w.stop()
				w.things.fails(tt.fail...)
				w.start()
				st := w.settled("s")
				want(t, st, tt.status)
				if w.things.left() != tt.left {
					t.Errorf("%d things are left, want %d: %v\n%s", w.things.left(), tt.left, w.things.said(), strings.Join(told(st), "\n"))
				}
				for logical, h := range st.Resources {
					if _, ok := w.things.there[h.Now.ID]; !ok {
						t.Errorf("%s is recorded as %s, which is not there", logical, h.Now.ID)
					}
				}
			})
		}
	}
}

func TestWhatWasCalledOffStaysSoWhenTheDaemonIsKilled(t *testing.T) {
	tests := []struct {
		name    string
		first   bool // the stack is there before
		begin   func(*world) error
		callOff func(*operation)
		status  string
		left    int
	}{
		{"a creation", false, creating(chain), func(o *operation) { o.Delete = true }, deleteComplete, 0},
		{"an update", true, updating(chain, "green"), func(o *operation) { o.Cancelled = true }, updateRollbackComplete, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.first {
				w.create("s", chain)
			}
			died := w.dieAt(1)
			if err := tt.begin(w); err != nil {
				t.Fatal(err)
			}
			<-died
			st, _ := w.stacks.find("s")
			if err := w.stacks.edit(st.ID, func(st *stack) error { tt.callOff(st.Operation); return nil }); err != nil {
				t.Fatal(err)
			}
			w.stop()
			w.things.fails()
			w.start()
			st = w.settled("s")
			want(t, st, tt.status)
			if w.things.left() != tt.left {
				t.Errorf("%d left, want %d", w.things.left(), tt.left)
			}
		})
	}
}

func TestAPhaseThatCannotBeToldFromTheRecordIsTriedAgainNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.ErrorLevel)
		stacks := &Stacks{Path: filepath.Join(t.TempDir(), "stacks.json"), Plan: vpc.Default(), Now: time.Now, Logger: zap.New(core)}
		if err := stacks.Open(); err != nil {
			t.Fatal(err)
		}
		stacks.list = []*stack{{ID: "s", Name: "s", Status: updateCleanup, Spec: spec{Body: "{"}, Operation: &operation{ID: "o", Kind: kindUpdate, Phase: cleanUp}}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go stacks.Run(ctx)
		time.Sleep(time.Hour)
		if n := logs.Len(); n < 10 || n > 120 {
			t.Errorf("%d tries within an hour", n)
		}
	})
}

func TestAnOperationTowardsWhatCannotBeReadIsRolledBack(t *testing.T) {
	w := newWorld(t)
	w.stop()
	if err := w.stacks.add(&stack{
		ID: "s", Name: "s", Status: createInProgress, Operation: &operation{ID: "o", Kind: kindCreate, Phase: forward, Target: spec{Body: "{"}},
	}); err != nil {
		t.Fatal(err)
	}
	w.start()
	want(t, w.settled("s"), rollbackComplete)
}

func creating(body string) func(*world) error {
	return func(w *world) error {
		_, err := w.CreateStack(w.t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("s"), TemplateBody: &body})
		return err
	}
}

func updating(body, colour string) func(*world) error {
	return func(w *world) error {
		_, err := w.UpdateStack(w.t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("s"), TemplateBody: &body, Parameters: []types.Parameter{parameterOf("Colour", colour)}})
		return err
	}
}
