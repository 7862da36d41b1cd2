package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// transcriptLines returns every line of the transcripts, of both sides.
func transcriptLines(tb testing.TB) (lines []string) {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no transcripts are found: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if rest, ok := strings.CutPrefix(line, "→ "); ok {
				lines = append(lines, rest)
			} else if rest, ok := strings.CutPrefix(line, "← "); ok {
				lines = append(lines, rest)
			}
		}
	}
	return lines
}

// bigObject is an object with n keys and one more.
func bigObject(n int, last string) string {
	var text strings.Builder
	text.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&text, `"k%d":%d,`, i, i)
	}
	text.WriteString(`"` + last + `":0}`)
	return text.String()
}

// nested is an array or object in another, depth of them.
func nested(depth int, c byte) string {
	if c == '[' {
		return strings.Repeat("[", depth) + strings.Repeat("]", depth)
	}
	return strings.Repeat(`{"a":`, depth-1) + "{}" + strings.Repeat("}", depth-1)
}
