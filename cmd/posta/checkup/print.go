package checkup

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// Print tells what was found: a line for each part, and how to mend it beneath; or one JSON
// object.
func Print(w io.Writer, found []Finding, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"ok": Sound(found), "findings": found})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Verdict, f.Part, f.Saw)
		if f.Mend != "" {
			fmt.Fprintf(table, "\t\t→ %s\n", f.Mend)
		}
	}
	return table.Flush()
}
