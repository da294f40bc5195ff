package cloudformation

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
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
