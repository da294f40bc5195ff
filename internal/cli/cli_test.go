package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/spf13/cobra"
)

func TestExitStatus(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want int
	}{
		"done":                            {[]string{"work"}, 0},
		"failed":                          {[]string{"work", "--fail"}, 1},
		"wrong usage said by the command": {[]string{"work", "--misuse"}, 2},
		"unknown flag":                    {[]string{"work", "--no-such-flag"}, 2},
		"unknown command":                 {[]string{"play"}, 2},
		"too many arguments":              {[]string{"work", "hard"}, 2},
		"bad output format":               {[]string{"version", "--output", "xml"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			old := os.Args
			defer func() { os.Args = old }()
			os.Args = append([]string{"tool"}, test.args...)
			if got := Run(tool()); got != test.want {
				t.Errorf("exit status %d, want %d", got, test.want)
			}
		})
	}
}

func tool() *cobra.Command {
	root := &cobra.Command{Use: "tool"}
	root.SetOut(io.Discard)
	var fail, misuse bool
	work := &cobra.Command{Use: "work", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		switch {
		case fail:
			return errors.New("no oven")
		case misuse:
			return Usage(errors.New("wrong oven"))
		}
		return nil
	}}
	work.Flags().BoolVar(&fail, "fail", false, "")
	work.Flags().BoolVar(&misuse, "misuse", false, "")
	root.AddCommand(work)
	return root
}

func TestOutputPrintsJSONOrTheTable(t *testing.T) {
	table := func(w io.Writer) error { _, err := fmt.Fprint(w, "a table"); return err }
	var out bytes.Buffer
	if err := (&Output{format: "table"}).Print(&out, 1, table); err != nil || out.String() != "a table" {
		t.Errorf("table: %q, %v", out.String(), err)
	}
	out.Reset()
	if err := (&Output{format: "json"}).Print(&out, map[string]int{"nodes": 2}, table); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["nodes"] != 2 {
		t.Errorf("json: %q, %v", out.String(), err)
	}
}
