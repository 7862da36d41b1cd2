package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/posta-tasks/posta/cli/terminal"
)

// Print writes a line for each finding, and below it how to fix it. With asJSON it writes one JSON object.
func Print(w io.Writer, found []Finding, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"ok": Sound(found), "findings": found})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Verdict, terminal.Line(f.Part), terminal.Line(f.Saw))
		if f.Fix != "" {
			fmt.Fprintf(table, "\t\t→ %s\n", terminal.Line(f.Fix))
		}
	}
	return table.Flush()
}

// PrintReady prints that the system is ready. If it is not, the error says why.
func (s System) PrintReady(ctx context.Context, w io.Writer, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		return plain(err)
	}
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]bool{"ready": true})
	}
	_, err := fmt.Fprintln(w, "ready")
	return err
}
