package progress

import (
	"bytes"
	"errors"
	"regexp"
	"testing"
)

func TestAStepIsShownWithItsOutcome(t *testing.T) {
	failure := errors.New("no")
	for want, err := range map[string]error{`^  making it  done in [0-9.]+s\n$`: nil, `^  making it  failed after [0-9.]+s\n$`: failure} {
		var out bytes.Buffer
		if got := (Steps{out: &out}).Do("making it", func() error { return err }); !errors.Is(got, err) {
			t.Errorf("got %v, want %v", got, err)
		}
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("shown: %q", out.String())
		}
	}
}

func TestALiveLineIsClearedAtTheEnd(t *testing.T) {
	var out bytes.Buffer
	_ = Steps{out: &out, live: true}.Do("making it", func() error { return nil })
	if !bytes.HasPrefix(out.Bytes(), []byte("\r\033[K  making it  done in")) {
		t.Errorf("shown: %q", out.String())
	}
}
