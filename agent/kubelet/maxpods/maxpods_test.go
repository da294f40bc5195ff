package maxpods

import (
	"os"
	"strings"
	"testing"
)

var medium = Variables{DefaultENIs: 3, IPsPerENI: 6, MaxPods: 17}

// built skips the test where make has not put the evaluator in.
func built(t *testing.T) {
	t.Helper()
	if _, err := program.Open(path); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the evaluator is not built in")
	}
	t.Skip("the evaluator is not built in; run make build")
}

func TestTheProgramEvaluatesAnExpression(t *testing.T) {
	built(t)
	for expression, want := range map[string]int{
		"110": 110,
		"((default_enis - 1) * (ips_per_eni - 1)) + 2": 12, // custom networking
		"max_pods > 110 && \"<&>é\" != ''\n ? 110 : 9": 9,
	} {
		if got, err := Evaluate(expression, medium); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", expression, got, err, want)
		}
		if err := Check(expression); err != nil {
			t.Errorf("%s: check refuses it: %v", expression, err)
		}
	}
	if got, err := Evaluate("max_pods - 10", Variables{MaxPods: 110}); err != nil || got != 100 {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestTheProgramTellsWhatIsWrong(t *testing.T) {
	built(t)
	for expression, want := range map[string]string{
		"max_pods\n+ enis":                      "line 2, column 3: undeclared reference to 'enis'; there are default_enis, ips_per_eni and max_pods",
		"\"40\"":                                "it gives a value of type string, want an int, which int(...) makes of a number",
		"'" + strings.Repeat("\x00", 998) + "'": "it gives a value of type string, want an int, which int(...) makes of a number", // the longest there is, in JSON
		strings.Repeat("1+", 500) + "1":         "1001 bytes are too long, want 1000 at most",
	} {
		if err := Check(expression); err == nil || err.Error() != want {
			t.Errorf("check %q:\n got %v\nwant %s", expression, err, want)
		}
		if _, err := Evaluate(expression, medium); err == nil || err.Error() != want {
			t.Errorf("evaluate %q:\n got %v\nwant %s", expression, err, want)
		}
	}
	const expression, want = "max_pods - 17", "it gives 0, want 1 to 2147483647 (with default_enis 3, ips_per_eni 6, max_pods 17)"
	if err := Check(expression); err != nil {
		t.Error(err)
	}
	if _, err := Evaluate(expression, medium); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
