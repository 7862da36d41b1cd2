// Package report summarizes rounds and prints tables: Markdown for people, JSON for machines.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posta-tasks/posta/lab/bench/lab"
)

// Report has the measurements of one run.
type Report struct {
	Machine  lab.Machine   `json:"machine"`
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took_ns"`
	Subject  string        `json:"subject"`        // what was measured
	Note     string        `json:"note,omitempty"` // how to read the tables
	Rounds   int           `json:"rounds"`
	Measured time.Duration `json:"round_ns"`
	Sections []Section     `json:"sections"`
}

// Section is one table. The rows are for people. data has the same for machines, with every round.
type Section struct {
	Name  string     `json:"name"`
	Title string     `json:"title"`
	Head  []string   `json:"-"`
	Rows  [][]string `json:"-"`
	Notes []string   `json:"notes,omitempty"`
	Data  any        `json:"data"`
}

// WriteJSON prints every round.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteText prints Markdown. It is readable in a terminal too, and can be pasted into docs/performance.md.
func (r *Report) WriteText(w io.Writer) {
	fmt.Fprintf(w, "%s, %v: %s\n", r.Began.UTC().Format("2006-01-02 15:04 UTC"), r.Took.Round(time.Second), r.Machine)
	fmt.Fprintf(w, "Median of %d rounds of %v each, minimum and maximum in parentheses.\n", r.Rounds, r.Measured)
	if r.Note != "" {
		fmt.Fprintln(w, r.Note)
	}
	for _, s := range r.Sections {
		s.writeText(w)
	}
}

func (s *Section) writeText(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n\n", s.Title)
	widths := make([]int, len(s.Head))
	for _, row := range append([][]string{s.Head}, s.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	writeRow(w, s.Head, widths)
	rule := make([]string, len(widths))
	for i, n := range widths {
		rule[i] = strings.Repeat("-", n)
	}
	writeRow(w, rule, widths)
	for _, row := range s.Rows {
		writeRow(w, row, widths)
	}
	for _, note := range s.Notes {
		fmt.Fprintf(w, "\n%s\n", note)
	}
}

func writeRow(w io.Writer, cells []string, widths []int) {
	var line strings.Builder
	for i, cell := range cells {
		line.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + " ")
	}
	fmt.Fprintln(w, line.String()+"|")
}
