package boot

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// columns is how wide the table and what stands below it are, at most.
const columns = 100

// Print writes the status as a table for people; now is the time since kernel start. An
// error that does not fit into its row stands below in full, with what to do about it.
func (s Status) Print(w io.Writer, now time.Duration) error {
	// The errors come below.
	fmt.Fprint(w, wrap("", s.headline(func(p PhaseStatus) string { return fmt.Sprintf("try %d failed", p.Attempts) })))
	for _, warning := range s.Warnings {
		fmt.Fprint(w, wrap("warning: ", warning))
	}
	for _, script := range s.Scripts {
		if script.ExitStatus != nil && script.Seconds != nil {
			fmt.Fprintf(w, "script %s: exit status %d after %.1fs\n", script.Name, *script.ExitStatus, *script.Seconds)
		}
	}
	if l := s.LocalStorage; l != nil {
		fmt.Fprint(w, wrap("local storage: ", strings.Join(slices.Concat([]string{l.State}, l.Devices, l.MountPoints, []string{l.Swap}), " ")))
	}
	var rows strings.Builder
	table := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PHASE\tSTATE\tSINCE\tTOOK\tATTEMPTS\tNEXT TRY\tLAST ERROR")
	for _, phase := range s.Phases {
		since, took, next := "-", "-", "-"
		if phase.Started != nil {
			since = fmt.Sprintf("%.1fs", *phase.Started)
			end := now.Seconds()
			if phase.Finished != nil {
				end = *phase.Finished
			}
			took = fmt.Sprintf("%.1fs", end-*phase.Started)
		}
		if phase.NextTry != nil {
			next = fmt.Sprintf("in %.1fs", max(0, *phase.NextTry-now.Seconds()))
		}
		said := phase.LastError
		if said == "" {
			said = phase.Detail
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", phase.Name, phase.State, since, took, phase.Attempts, next, said)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for row := range strings.Lines(rows.String()) {
		fmt.Fprintln(w, cut(strings.TrimRight(row, " \n"), columns))
	}
	failing := false
	for _, phase := range s.Phases {
		if phase.WhatToDo == "" {
			continue
		}
		failing = true
		fmt.Fprintf(w, "\n%s failed:\n%s", phase.Name, wrap("  ", phase.LastError))
		for _, line := range phase.Log {
			fmt.Fprint(w, wrap("  | ", line))
		}
		fmt.Fprint(w, wrap("  What to do: ", phase.WhatToDo))
	}
	if failing {
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprint(w, wrap("", s.Traffic.String()))
	return err
}

// wrap breaks text at its spaces into lines of at most columns characters, but for longer
// words. The first begins with lead, the others as far in.
func wrap(lead, text string) string {
	indent := strings.Repeat(" ", utf8.RuneCountInString(lead))
	var lines strings.Builder
	line := lead
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns:
			lines.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	return lines.String() + line + "\n"
}

// cut ends text that is longer than most characters with "…".
func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
