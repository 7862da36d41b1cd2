package httpapi

import (
	"bytes"
	"testing"
)

// A read full of the shortest lines there are once took a thousand times its size.
func TestAReadOfTinyLinesIsWorkedInParts(t *testing.T) {
	t.Parallel()
	const lines, most = 32 << 10, 256
	in := &intake{buffer: bytes.Repeat([]byte("1\n"), lines)}
	in.held = len(in.buffer)
	in.take(false)
	total := 0
	for part := in.next(most); len(part) > 0; part = in.next(most) {
		if total += len(part); len(part) > most {
			t.Fatalf("%d lines come at once, want at most %d", len(part), most)
		}
		for _, line := range part {
			if string(line) != "1" {
				t.Fatalf("the line is %q", line)
			}
		}
	}
	if total != lines {
		t.Errorf("%d lines came, want %d", total, lines)
	}
}
