package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/google/renameio/v2"
)

// Entry is one measured figure: a median of interleaved runs and what it is held against.
type Entry struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Against   string  `json:"against,omitempty"`
	Reference float64 `json:"reference,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
	Runs      int     `json:"runs"`
}

// compared makes an entry of two series that were measured in turn.
func compared(name, unit, against string, values, references []float64) Entry {
	value, reference := median(values), median(references)
	return Entry{Name: name, Value: value, Unit: unit, Against: against, Reference: reference, Ratio: value / reference, Runs: len(values)}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// report prints the table and writes the file.
func report(w io.Writer, path string, entries []Entry) error {
	if err := table(w, entries); err != nil {
		return err
	}
	content, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	fmt.Fprintf(os.Stderr, "written to %s\n", path)
	return nil
}

// table prints the figures for people.
func table(w io.Writer, entries []Entry) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tVALUE\tUNIT\tAGAINST\tREFERENCE\tRATIO\tRUNS")
	for _, e := range entries {
		against, reference, ratio := "-", "-", "-"
		switch {
		case e.Reference > 0:
			against, reference, ratio = e.Against, fmt.Sprintf("%.2f", e.Reference), fmt.Sprintf("%.2f", e.Ratio)
		case e.Against != "":
			against, reference = e.Against, "not measured"
		}
		fmt.Fprintf(table, "%s\t%.2f\t%s\t%s\t%s\t%s\t%d\n", e.Name, e.Value, e.Unit, against, reference, ratio, e.Runs)
	}
	return table.Flush()
}
