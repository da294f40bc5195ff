package fault

import (
	"testing"
	"time"
)

// struck is which of n calls of an action a fault befalls, as x and dots.
func struck(s *Set, action string, n int) string {
	var text []byte
	for range n {
		mark := byte('.')
		if len(s.Strike(action)) > 0 {
			mark = 'x'
		}
		text = append(text, mark)
	}
	return string(text)
}

func TestAFaultBefallsTheCallsThatItIsFor(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault Fault
		want  string
	}{
		{"every call until it is cleared", Fault{Effect: Throttle}, "xxxxxxxx"},
		{"the next two", Fault{Effect: Fail, Count: 2}, "xx......"},
		{"two after three", Fault{Effect: Lose, After: 3, Count: 2}, "...xx..."},
		{"a quarter, evenly", Fault{Effect: Deny, Share: 0.25}, "...x...x"},
		{"another action's", Fault{Action: "Other", Effect: Deny}, "........"},
	} {
		s := &Set{}
		if err := s.Add(tt.fault); err != nil {
			t.Fatal(err)
		}
		if got := struck(s, "Action", 8); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestARateLetsSoManyCallsASecondPass(t *testing.T) {
	now := time.Unix(0, 0)
	s := &Set{Now: func() time.Time { return now }}
	if err := s.Add(Fault{Effect: Throttle, PerSecond: 2}); err != nil {
		t.Fatal(err)
	}
	got := struck(s, "Action", 4)
	now = now.Add(500 * time.Millisecond)
	got += struck(s, "Action", 2)
	now = now.Add(time.Hour)
	got += struck(s, "Action", 4)
	if want := "..xx" + ".x" + "..xx"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFaultsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, f := range []Fault{
		{}, {Effect: "explode"}, {Effect: Delay}, {Effect: Throttle, Wait: time.Second}, {Effect: Fail, Share: 1.5}, {Effect: Fail, Count: -1},
	} {
		if err := (&Set{}).Add(f); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
}

func TestWithoutASetNothingHappens(t *testing.T) {
	var s *Set
	if f := s.Strike("Action"); f != nil {
		t.Errorf("struck by %v", f)
	}
}
