package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/node"
)

// The transcripts of wire/testdata, which docs/wire.md shows, are played here
// against a node. What is in parentheses in them is one of the stage directions below.

// settings are the directions that say what node it is; they come first.
var settings = map[string]func(t *testing.T, cfg *node.Config){
	"a node with tokens": func(t *testing.T, cfg *node.Config) { cfg.Tokens = stageTokens(t) },
	"a node with lines of at most 64 bytes": func(_ *testing.T, cfg *node.Config) {
		cfg.Limits.Line = 64
	},
	"a node with 100 ms to complete a line": func(_ *testing.T, cfg *node.Config) {
		cfg.Limits.LineTimeout = 100 * time.Millisecond
	},
	"a node with 100 ms to be idle": func(_ *testing.T, cfg *node.Config) {
		cfg.Limits.Idle = 100 * time.Millisecond
	},
	"a node with no connection left": func(_ *testing.T, cfg *node.Config) {
		cfg.Limits.Connections, cfg.Limits.HealthConnections = 2, 1
	},
}

// directions are what else can happen.
var directions = map[string]func(*play){
	"in any order":                           (*play).replies,
	"then":                                   func(*play) {},
	"the client ends its side":               func(p *play) { p.finish(); p.finished = true },
	"the client sends half a line and waits": func(p *play) { p.send(`{"id":1,"action":`) },
	"the server ends the connection":         func(p *play) { p.expectEnd(); p.ended = true },
	"the node is told to stop":               func(p *play) { p.stage.stop() },
}

// play is one transcript on its way.
type play struct {
	*visitor
	stage           *stage
	lines           []string // what is still to come
	finished, ended bool
}

func TestTheTranscriptsPlayAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../wire/testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("found the transcripts %q (%v)", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			perform(t, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
		})
	}
}

// perform plays a whole transcript. Where it does not say how the connection ends,
// the client ends its side, and nothing may be left to be said.
func perform(t *testing.T, lines []string) {
	var cfg node.Config
	set := settings[direction(lines[0])]
	if set != nil {
		set(t, &cfg)
	}
	p := &play{stage: openStage(t, cfg), lines: lines}
	if set != nil {
		p.lines = lines[1:]
	}
	if cfg.Limits.Connections > 0 {
		visit(t, p.stage.addr).expectPong()
	}
	p.visitor = visit(t, p.stage.addr)
	for len(p.lines) > 0 {
		if err := p.step(); err != nil {
			t.Fatal(err)
		}
	}
	if !p.ended {
		if !p.finished {
			p.finish()
		}
		p.expectEnd()
	}
}

// step plays one line.
func (p *play) step() error {
	line := p.lines[0]
	p.lines = p.lines[1:]
	if text, ok := strings.CutPrefix(line, "→ "); ok {
		p.send(text + "\n")
		return nil
	}
	if text, ok := strings.CutPrefix(line, "← "); ok {
		p.expect(text)
		return nil
	}
	do := directions[direction(line)]
	if do == nil {
		return fmt.Errorf("the transcript has the line %q, which is neither → nor ← nor a known direction", line)
	}
	do(p)
	return nil
}

// direction gives what is in parentheses.
func direction(line string) string {
	if !strings.HasPrefix(line, "(") || !strings.HasSuffix(line, ")") {
		return ""
	}
	return line[1 : len(line)-1]
}

// replies reads as many replies as there are lines with ←, in any order.
func (p *play) replies() {
	p.tb.Helper()
	var wanted []string
	for len(p.lines) > 0 && strings.HasPrefix(p.lines[0], "← ") {
		wanted = append(wanted, strings.TrimPrefix(p.lines[0], "← "))
		p.lines = p.lines[1:]
	}
	for len(wanted) > 0 {
		line, err := p.next()
		if err != nil {
			p.tb.Fatalf("got %v instead of one of the replies\n%s", err, strings.Join(wanted, "\n"))
		}
		i := slices.IndexFunc(wanted, func(pattern string) bool { return looksLike(line, pattern) })
		if i < 0 {
			p.tb.Fatalf("got the reply\n%s, want one of\n%s", line, strings.Join(wanted, "\n"))
		}
		wanted = slices.Delete(wanted, i, i+1)
	}
}
