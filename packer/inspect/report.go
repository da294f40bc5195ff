package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Sizes are those of a disk and its parts, in bytes. They depend on what is in the disk
// only, not on the file system that it lies on.
type Sizes struct {
	Disk int64 `json:"disk"` // as the machine sees it
	// Written is what of the disk is not zeros, in blocks of 4 KiB: what a sparse file takes.
	Written int64 `json:"written"`
	// Snapshot is the same in blocks of 512 KiB: what an EBS snapshot takes, and an upload.
	Snapshot int64 `json:"snapshot"`
	Kernel   int64 `json:"kernel"` // the unified kernel image: kernel, command line, initrd
	Root     int64 `json:"root,omitempty"`
	Hashes   int64 `json:"root_hashes,omitempty"`
	Data     int64 `json:"data,omitempty"` // the partition that is left for /var
}

// Report is what a bake says about its image.
type Report struct {
	Summary  string   `json:"summary"`
	Sizes    Sizes    `json:"sizes"`
	Usage    Usage    `json:"usage"`
	Controls []Result `json:"controls"`
}

// NewReport puts a report together.
func NewReport(results []Result, usage Usage, sizes Sizes) Report {
	return Report{Summary: Summarize(results), Sizes: sizes, Usage: usage, Controls: results}
}

// Summarize counts the outcomes, in a line.
func Summarize(results []Result) string {
	count := map[Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
	}
	return fmt.Sprintf("%d controls: %d passed, %d failed, %d excepted, %d do not apply",
		len(results), count[Passed], count[Failed], count[Excepted], count[NotApplicable])
}

// JSON writes the report for programs.
func (r Report) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return append(text, '\n'), nil
}

// Text writes the report for people.
func (r Report) Text() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n", r.Summary)
	for _, c := range r.Controls {
		if c.Outcome != NotApplicable {
			fmt.Fprintf(&text, "%-8s  %s\n", strings.ToUpper(string(c.Outcome)), c.heading())
			c.explain(&text)
		}
	}
	text.WriteString("\nThese do not apply\n\n")
	for _, c := range r.Controls {
		if c.Outcome == NotApplicable {
			fmt.Fprintf(&text, "%s\n    %s\n", c.heading(), c.Reason)
		}
	}
	text.WriteString("\nSize\n\n")
	table(&text, func(w io.Writer) {
		s := r.Sizes
		for _, line := range []struct {
			what string
			size int64
		}{
			{"the disk, as the machine sees it", s.Disk},
			{"what of it is not zeros", s.Written},
			{"what an EBS snapshot of it takes (blocks of 512 KiB)", s.Snapshot},
			{"the unified kernel image", s.Kernel},
			{"the root file system, compressed", s.Root},
			{"its hashes", s.Hashes},
			{"the partition that is left for /var", s.Data},
			{"all files, before compression", r.Usage.Files},
		} {
			if line.size > 0 {
				fmt.Fprintf(w, "%s\t%.1f MiB\n", line.what, mib(line.size))
			}
		}
	})
	fmt.Fprintf(&text, "\nThe %d largest things, before compression\n\n", len(r.Usage.Things))
	table(&text, func(w io.Writer) {
		for _, t := range r.Usage.Things {
			fmt.Fprintf(w, "%.1f MiB\t%s\t%s\n", mib(t.Size), t.Kind, t.Name)
		}
	})
	return text.String()
}

func (r Result) heading() string {
	heading := fmt.Sprintf("%-35s  %s", r.ID, r.Title)
	if r.Source != "" {
		heading += " (" + r.Source + ")"
	}
	return heading
}

// explain says what is not as wanted, and why that is accepted.
func (r Result) explain(w io.Writer) {
	if len(r.Found) == 0 {
		return
	}
	fmt.Fprintf(w, "%12sfound     %s\n%12swant      %s\n", "", shorten(r.Found, 10), "", r.Want)
	if r.Reason != "" {
		fmt.Fprintf(w, "%12saccepted  %s\n", "", r.Reason)
	}
}

func table(w io.Writer, rows func(io.Writer)) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(columns)
	_ = columns.Flush() // into a strings.Builder, which does not fail
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
