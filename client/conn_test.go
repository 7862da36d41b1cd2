package client

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// readAll returns all lines of a reader and its last error.
func readAll(from io.Reader, limit int) (lines []string, err error) {
	r := lineReader{from: from, limit: limit}
	for {
		for line, ok := r.next(); ok; line, ok = r.next() {
			lines = append(lines, string(line))
		}
		if err := r.more(); err != nil {
			return lines, err
		}
	}
}

func TestLinesDoNotDependOnTheSizesOfReads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 40_000), 0, 12).Draw(t, "lengths")
		var want []string
		var sent bytes.Buffer
		for i, length := range lengths {
			line := bytes.Repeat([]byte{byte('a' + i)}, length)
			want = append(want, string(line))
			sent.Write(line)
			if i%2 == 1 {
				sent.WriteByte('\r')
			}
			sent.WriteByte('\n')
		}
		var from io.Reader = &sent
		if rapid.Bool().Draw(t, "halves") {
			from = iotest.HalfReader(from)
		}
		got, err := readAll(from, 40_001)
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Fatalf("got %d lines and %v, want %d lines", len(got), err, len(want))
		}
	})
}

func TestALineThatExceedsTheLimitIsAnError(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	read := 0
	endless := readerFunc(func(p []byte) (int, error) {
		read += len(p)
		return len(p), nil
	})
	if _, err := readAll(endless, limit); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if read > limit+1 {
		t.Errorf("%d bytes were read, of a line of at most %d", read, limit)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTheBacklogIsFirstInFirstOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b backlog
		var model []*call
		t.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) {
				k := new(call)
				b.push(k)
				model = append(model, k)
			},
			"push to the front": func(*rapid.T) {
				k := new(call)
				b.pushFront(k)
				model = append([]*call{k}, model...)
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				b.remove(model[i])
				model = slices.Delete(model, i, i+1)
			},
			"": func(t *rapid.T) {
				var got []*call
				for k := b.first; k != nil; k = k.next {
					got = append(got, k)
				}
				if !slices.Equal(got, model) || int(b.length) != len(model) {
					t.Fatalf("the backlog has %d calls, length %d, want %d", len(got), b.length, len(model))
				}
			},
		})
	})
}

func TestPausesGrowToTheirLimitWithJitter(t *testing.T) {
	t.Parallel()
	for failures, most := range map[int]time.Duration{
		0: firstPause, 1: firstPause, 2: 2 * firstPause, 6: 32 * firstPause, 7: lastPause, 1000: lastPause,
	} {
		for range 50 {
			if pause := backoff(failures); pause < most/2 || pause > most {
				t.Errorf("after %d failures a pause of %s, want %s to %s", failures, pause, most/2, most)
			}
		}
	}
	for range 50 {
		if pause := withJitter(time.Second); pause < time.Second || pause > 1250*time.Millisecond {
			t.Errorf("got %s of a second", pause)
		}
	}
}

func TestOnlyIDsThatTheClientCanHaveSentAreParsed(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]uint64{"0": 0, "7": 7, "123456789012345678": 123456789012345678} {
		if id, ok := replyID([]byte(raw)); !ok || id != want {
			t.Errorf("%s: got %d, %v", raw, id, ok)
		}
	}
	for _, raw := range []string{"", "-1", "1.0", "1e3", `"1"`, "1234567890123456789"} {
		if id, ok := replyID([]byte(raw)); ok {
			t.Errorf("%s: got %d", raw, id)
		}
	}
}

func TestTheShapeOfAReplyDecidesWhichLineIsItsLast(t *testing.T) {
	t.Parallel()
	for shape, want := range map[shape]string{shapeObject: "qrdfce", shapeLine: "qrdfce", shapeWait: "qrdfce", shapeWatch: "dfce", shapeAccept: "dfce"} {
		got := ""
		for _, status := range []string{"queued", "running", "done", "failed", "cancelled", "error"} {
			if shape.ends(status) {
				got += status[:1]
			}
		}
		if got != want {
			t.Errorf("shape %d ends with %s, want %s", shape, got, want)
		}
	}
}
