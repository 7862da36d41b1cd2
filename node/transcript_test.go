package node_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// The tests of this file play the transcripts of wire/testdata, which docs/wire.md shows, against
// a node. A text in parentheses is one of the directions below. The id of a task stands for the
// id that the server assigns; equal ids stand for equal ids.

// settings are the directions that configure the node. They come first.
var settings = map[string]func(p *play, cfg *node.Config){
	"a node with tokens": func(p *play, cfg *node.Config) { cfg.Tokens = stageTokens(p.t) },
	"a node with a store": func(_ *play, cfg *node.Config) {
		cfg.Durable = &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}
	},
	"a node with a store, and an action resize that says how far it is":  (*play).troupe,
	"a node with a store, and an action flaky that fails the first time": (*play).troupe,
	"a node with lines of at most 64 bytes": func(_ *play, cfg *node.Config) {
		cfg.Limits.Line = 64
	},
	"a node with 100 ms to complete a line": func(_ *play, cfg *node.Config) {
		cfg.Limits.LineTimeout = 100 * time.Millisecond
	},
	"a node with 3 s to be idle": func(_ *play, cfg *node.Config) {
		cfg.Limits.Idle = 3 * time.Second
	},
	"a node with no connection left": func(_ *play, cfg *node.Config) {
		cfg.Limits.Connections, cfg.Limits.HealthConnections = 2, 1
	},
}

// directions are the other events.
var directions = map[string]func(*play){
	"in any order":                           (*play).replies,
	"then":                                   func(*play) {},
	"the client ends its side":               func(p *play) { p.finish(); p.finished = true },
	"the client sends half a line and waits": func(p *play) { p.send(`{"id":1,"action":`) },
	"the server ends the connection":         func(p *play) { p.expectEnd(); p.ended = true },
	"the node is told to stop":               func(p *play) { p.stage.stop() },
	"resize says that it is half done":       func(p *play) { p.tell("half"); p.tell("that was said") },
	"resize is finished":                     func(p *play) { p.tell("finished") },
}

// troupe configures a node with a store and actions that follow the directions.
func (p *play) troupe(cfg *node.Config) {
	cfg.Durable = &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}
	resize := actions.New("resize", func(ctx context.Context, call *actions.Call) (any, error) {
		for {
			select {
			case cue := <-p.cue:
				switch cue {
				case "half":
					call.Report(50, cue)
				case "finished":
					return "resized", nil
				}
			case <-p.t.Context().Done(): // so that the node need not wait for its timeout
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	flaky := actions.New("flaky", func(_ context.Context, call *actions.Call) (any, error) {
		if call.Attempt == 1 {
			return nil, errors.New("it is flaky")
		}
		return "at last", nil
	})
	cfg.Actions = append(actions.Builtin(), resize, flaky)
}

// play is the state of one transcript.
type play struct {
	*visitor
	t               *testing.T
	stage           *stage
	lines           []string          // the remaining lines
	ids             map[string]string // ids of the server by those of the transcript
	cue             chan string       // what resize should do next
	finished, ended bool
}

func TestTheNodeBehavesAsTheTranscriptsShow(t *testing.T) {
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

// perform plays a whole transcript. If the transcript does not end the connection, the client
// closes its write side, and no more replies may follow.
func perform(t *testing.T, lines []string) {
	cfg := node.Config{Limits: task.Limits{DrainTimeout: patience}}
	set := settings[direction(lines[0])]
	p := &play{t: t, lines: lines, ids: map[string]string{}, cue: make(chan string)}
	if set != nil {
		set(p, &cfg)
		p.lines = lines[1:]
	}
	p.stage = openStage(t, cfg)
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
		for shown, given := range p.ids {
			text = strings.ReplaceAll(text, shown, given)
		}
		p.send(text + "\n")
		return nil
	}
	if text, ok := strings.CutPrefix(line, "← "); ok {
		p.expect(text)
		return nil
	}
	do := directions[direction(line)]
	if do == nil {
		return fmt.Errorf("the line %q of the transcript is neither → nor ← nor a known direction", line)
	}
	do(p)
	return nil
}

// direction returns the text in parentheses.
func direction(line string) string {
	if !strings.HasPrefix(line, "(") || !strings.HasSuffix(line, ")") {
		return ""
	}
	return line[1 : len(line)-1]
}

// replies reads the replies of all following lines with ←, in any order.
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
		i := slices.IndexFunc(wanted, func(pattern string) bool { return p.recognizes(line, pattern) })
		if i < 0 {
			p.tb.Fatalf("got the reply\n%s, want one of\n%s", line, strings.Join(wanted, "\n"))
		}
		wanted = slices.Delete(wanted, i, i+1)
	}
}

// tell passes a cue to resize and waits until resize receives it.
func (p *play) tell(cue string) {
	p.t.Helper()
	select {
	case p.cue <- cue:
	case <-time.After(patience):
		p.t.Fatalf("resize does not wait for the cue %s", cue)
	}
}

// shownID matches the id of a task in a transcript.
var shownID = regexp.MustCompile(`01[0-9A-Z]{24}`)

// expect reads a reply line that looks like the pattern.
func (p *play) expect(pattern string) {
	p.t.Helper()
	line, err := p.next()
	if err != nil {
		p.t.Fatalf("got %v instead of the reply %s", err, pattern)
	}
	if !p.recognizes(line, pattern) {
		p.t.Fatalf("got the reply\n%s, want\n%s", line, pattern)
	}
}

// recognizes compares a reply with a pattern, and remembers new ids.
func (p *play) recognizes(line, pattern string) bool {
	var learned []string
	for _, shown := range shownID.FindAllString(pattern, -1) {
		given := p.ids[shown]
		if given == "" {
			learned, given = append(learned, shown), "…"
		}
		pattern = strings.ReplaceAll(pattern, shown, given)
	}
	if !looksLike(line, pattern) {
		return false
	}
	for _, id := range shownID.FindAllString(line, -1) {
		if known := slices.Contains(slices.Collect(maps.Values(p.ids)), id); !known && len(learned) > 0 {
			p.ids[learned[0]], learned = id, learned[1:]
		}
	}
	return true
}
