package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods/exchange"
)

var medium = exchange.Variables{DefaultENIs: 3, IPsPerENI: 6, MaxPods: 17}

func TestAnExpressionGivesPods(t *testing.T) {
	for expression, want := range map[string]int{
		"110":          110,
		"max_pods + 2": 19,
		"((default_enis - 1) * (ips_per_eni - 1)) + 2": 12, // custom networking
		"default_enis * ((ips_per_eni - 1) * 16) + 2":  242,
		"max_pods > 110 ? 110 : max_pods":              17,
		"int(double(max_pods) * 0.5)":                  8,
		"[max_pods, 10].filter(n, n < 11)[0]":          10,
		"default_enis == 3\n  ? 1 // a comment\n  : 2": 1,
		"  max_pods  ": 17,
	} {
		if got, err := evaluate(expression, medium); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", expression, got, err, want)
		}
		if err := check(expression); err != nil {
			t.Errorf("%s: check refuses it: %v", expression, err)
		}
	}
}

func TestWhatIsNoExpressionIsRefusedBeforeItIsNeeded(t *testing.T) {
	for expression, want := range map[string]string{
		"":                 "Syntax error: mismatched input '<EOF>'",
		"max_pods +":       "line 1, column 11: Syntax error: mismatched input '<EOF>'",
		"max_pods + enis":  "line 1, column 12: undeclared reference to 'enis'; there are default_enis, ips_per_eni and max_pods",
		"max_pods * 1.5":   "line 1, column 10: found no matching overload for '_*_' applied to '(int, double)'",
		"max_pods / 2.0":   "line 1, column 10: found no matching overload for '_/_' applied to '(int, double)'",
		"\"40\"":           "it gives a value of type string, want an int, which int(...) makes of a number",
		"1.5":              "it gives a value of type double, want an int, which int(...) makes of a number",
		"max_pods > 3":     "it gives a value of type bool, want an int, which int(...) makes of a number",
		"[1, 2.0][0]":      "it gives a value of type dyn, want an int, which int(...) makes of a number",
		"fetch('http://')": "line 1, column 6: undeclared reference to 'fetch'; there are default_enis, ips_per_eni and max_pods",
		"1;2":              "line 1, column 2: Syntax error: token recognition error at: ';'",
		strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300): "expression recursion limit exceeded: 50",
	} {
		start := time.Now()
		err := check(expression)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", expression, err, want)
		}
		if took := time.Since(start); took > maxTime {
			t.Errorf("%q: took %s", expression, took)
		}
	}
}

func TestWhatGivesNoPodsIsRefusedWithWhatItWasGiven(t *testing.T) {
	many := "[" + strings.Repeat("0,", 40) + "0]"
	for name, test := range map[string]struct {
		expression string
		variables  exchange.Variables
		want       string
	}{
		"none":                     {"max_pods - 17", medium, "it gives 0, want 1 to 2147483647 (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"fewer":                    {"max_pods - 20", medium, "it gives -3, want 1 to 2147483647 (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"too many":                 {"max_pods * 1000000000", medium, "it gives 17000000000, want 1 to 2147483647 (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"overflow":                 {"max_pods * 1000000000000000000", medium, "integer overflow (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"by zero":                  {"max_pods / (max_pods - 17)", medium, "division by zero (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"no such item":             {"[1][max_pods]", medium, "index out of bounds: 17 (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"too much work":            {many + ".map(a, " + many + ".map(b, " + many + ".map(c, " + many + ".map(d, d)))).size()", medium, "operation cancelled: actual cost limit exceeded (with default_enis 3, ips_per_eni 6, max_pods 17)"},
		"an unknown instance type": {"default_enis * 2", exchange.Variables{MaxPods: 110}, "it needs default_enis, which this image does not know of the instance type; set spec.kubelet.config.maxPods instead"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := evaluate(test.expression, test.variables)
			if err == nil || err.Error() != test.want {
				t.Errorf("\n got %v\nwant %s", err, test.want)
			}
			if took := time.Since(start); took > maxTime {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestAnUnknownInstanceTypeStillHasMaxPods(t *testing.T) {
	if got, err := evaluate("max_pods - 10", exchange.Variables{MaxPods: 110}); err != nil || got != 100 {
		t.Errorf("got %d, %v", got, err)
	}
}
