package client_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
)

// stepLimit is how long a step may wait.
const stepLimit = 20 * time.Second

const transcripts = "../sdk/conformance"

// TestAWorkerPlaysTheTranscripts plays sdk/conformance, whose README.md describes the files.
func TestAWorkerPlaysTheTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(transcripts + "/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("there are %d transcripts: %v", len(files), err)
	}
	var ops map[string]struct{ Required, Optional []string }
	readJSON(t, transcripts+"/ops.json", &ops)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if name == "ops" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s transcript
			readJSON(t, file, &s)
			p := &player{t: t, ops: ops, gates: newGates(), captured: map[string]any{}, links: map[string]*nodeEnd{}}
			p.play(s)
		})
	}
}

// transcript is a file of sdk/conformance.
type transcript struct {
	About  string
	Worker struct {
		Actions    []string
		Slots      int
		Queues     []string
		Idempotent []string
		Grace      float64
		Version    string
		Token      string
		Drain      *float64
	}
	Steps []json.RawMessage
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// gates are what actions and steps wait for, by kind and name.
type gates struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

func newGates() *gates { return &gates{open: map[string]chan struct{}{}} }

func (g *gates) get(key string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[key] == nil {
		g.open[key] = make(chan struct{})
	}
	return g.open[key]
}

func (g *gates) pass(key string) {
	c := g.get(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// payloadOf is what the actions of transcripts read.
type payloadOf struct {
	Name, Message string
	After         float64
	Depth, Bytes  int
	Percent       float64
}

// actionsOf returns the actions that transcripts name. over ends those that block.
func actionsOf(g *gates, over <-chan struct{}, names []string) (list []actions.Action) {
	table := map[string]func(ctx context.Context, call *actions.Call, in payloadOf) (any, error){
		"echo": func(_ context.Context, call *actions.Call, _ payloadOf) (any, error) { return call.Payload, nil },
		"fail": func(_ context.Context, _ *actions.Call, in payloadOf) (any, error) {
			return nil, errors.New(in.Message)
		},
		"permanent": func(_ context.Context, _ *actions.Call, in payloadOf) (any, error) {
			return nil, actions.Permanent(errors.New(in.Message))
		},
		"retry": func(_ context.Context, _ *actions.Call, in payloadOf) (any, error) {
			return nil, actions.RetryAfter(errors.New(in.Message), time.Duration(in.After*float64(time.Second)))
		},
		"unserialisable": func(context.Context, *actions.Call, payloadOf) (any, error) { return func() {}, nil },
		"nested": func(_ context.Context, _ *actions.Call, in payloadOf) (any, error) {
			return json.RawMessage(strings.Repeat("[", in.Depth) + strings.Repeat("]", in.Depth)), nil
		},
		"big": func(_ context.Context, _ *actions.Call, in payloadOf) (any, error) {
			return strings.Repeat("x", in.Bytes), nil
		},
		"progress": func(_ context.Context, call *actions.Call, in payloadOf) (any, error) {
			call.Report(in.Percent, in.Message)
			return nil, nil
		},
		"block": func(_ context.Context, _ *actions.Call, in payloadOf) (any, error) {
			g.pass("entered " + in.Name)
			select {
			case <-g.get("finish " + in.Name):
			case <-over:
			}
			return in.Name, nil
		},
		"wait": func(ctx context.Context, _ *actions.Call, in payloadOf) (any, error) {
			g.pass("entered " + in.Name)
			<-ctx.Done()
			g.pass("interrupted " + in.Name)
			return nil, ctx.Err()
		},
	}
	for _, name := range names {
		run := table[name]
		list = append(list, actions.New(name, func(ctx context.Context, call *actions.Call) (any, error) {
			var in payloadOf
			_ = json.Unmarshal(call.Payload, &in) // those that need an object get one
			return run(ctx, call, in)
		}))
	}
	return list
}

// nodeEnd is the node's end of a connection with lines.
type nodeEnd struct {
	*net.TCPConn
	lines chan map[string]any // closed at the end
}

// request is an HTTP request that waits for its answer.
type request struct {
	*http.Request
	body   []byte
	answer chan []byte
}

// player plays the node's part.
type player struct {
	t        *testing.T
	ops      map[string]struct{ Required, Optional []string }
	gates    *gates
	captured map[string]any
	links    map[string]*nodeEnd
	current  *nodeEnd
	accepted chan *nodeEnd
	requests chan *request
	stop     context.CancelFunc
	ended    chan error
}

func (p *player) play(s transcript) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	over := make(chan struct{})
	p.accepted, p.requests = make(chan *nodeEnd), make(chan *request)
	var serving sync.WaitGroup
	serving.Go(func() { p.accept(listener, over, &serving) })
	drain := 600 * time.Second
	if s.Worker.Drain != nil {
		drain = max(time.Duration(*s.Worker.Drain*float64(time.Second)), 0) - 1 // negative: none
	}
	worker := client.Worker{
		Addr: listener.Addr().String(), Token: s.Worker.Token, Actions: actionsOf(p.gates, over, s.Worker.Actions), Slots: s.Worker.Slots,
		Queues: s.Worker.Queues, Version: s.Worker.Version, Idempotent: s.Worker.Idempotent,
		Grace: time.Duration(s.Worker.Grace * float64(time.Second)), Drain: drain,
		MinPause: time.Millisecond, MaxPause: 5 * time.Millisecond,
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.ended = stop, make(chan error, 1)
	run, kill, err := client.Killable(ctx, worker)
	if err != nil {
		p.t.Fatal(err)
	}
	serving.Go(func() { p.ended <- run() })
	defer func() {
		close(over) // connections end, and actions return
		kill()
		stop()
		_ = listener.Close()
		serving.Wait()
	}()
	for i, step := range s.Steps {
		if err := p.step(step); err != nil {
			p.t.Fatalf("step %d, %.300s: %v", i+1, step, err)
		}
	}
}

// accept accepts connections, with lines or HTTP.
func (p *player) accept(listener net.Listener, over <-chan struct{}, serving *sync.WaitGroup) {
	for {
		nc, err := listener.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer nc.Close()
			defer context.AfterFunc(channelContext(over), func() { nc.Close() })()
			reader := bufio.NewReaderSize(nc, 64<<10)
			first, err := reader.Peek(1)
			switch {
			case err != nil:
			case first[0] >= 'A' && first[0] <= 'Z':
				p.serveHTTP(nc, reader, over)
			default:
				p.serveLines(nc.(*net.TCPConn), reader, over)
			}
		})
	}
}

// channelContext returns a context that ends with a channel.
func channelContext(over <-chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-over
		cancel()
	}()
	return ctx
}

func (p *player) serveLines(nc *net.TCPConn, reader *bufio.Reader, over <-chan struct{}) {
	end := &nodeEnd{TCPConn: nc, lines: make(chan map[string]any, 16)}
	select {
	case p.accepted <- end:
	case <-over:
		return
	}
	for {
		text, err := reader.ReadBytes('\n')
		if err != nil {
			close(end.lines)
			<-over // the node may still write
			return
		}
		var line map[string]any
		if err := json.Unmarshal(text, &line); err != nil {
			line = map[string]any{"op": fmt.Sprintf("%.100s: %v", text, err)}
		}
		if line["op"] == "ping" {
			_, _ = fmt.Fprintf(nc, `{"id":%q,"status":"done","result":{"ok":true,"data":"pong"}}`+"\n", line["id"])
			continue
		}
		select {
		case end.lines <- line:
		case <-over:
			return
		}
	}
}

func (p *player) serveHTTP(nc net.Conn, reader *bufio.Reader, over <-chan struct{}) {
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		q := &request{Request: r, body: body, answer: make(chan []byte)}
		select {
		case p.requests <- q:
		case <-over:
			return
		}
		select {
		case answer := <-q.answer:
			_, _ = nc.Write(answer)
		case <-over:
			return
		}
	}
}

// receive receives from a channel before the step's time is over.
func receive[T any](from <-chan T, what string) (value T, err error) {
	timer := time.NewTimer(stepLimit)
	defer timer.Stop()
	select {
	case value, ok := <-from:
		if !ok && what != "" {
			return value, fmt.Errorf("the end came instead of %s", what)
		}
		return value, nil
	case <-timer.C:
		return value, fmt.Errorf("%s did not come", what)
	}
}

// step plays one step, which its first member names.
func (p *player) step(raw json.RawMessage) error {
	var step map[string]any
	if err := json.Unmarshal(raw, &step); err != nil {
		return err
	}
	kind := regexp.MustCompile(`^\{\s*"(\w+)"`).FindSubmatch(raw)
	if kind == nil {
		return errors.New("the step has no name")
	}
	value := step[string(kind[1])]
	text, _ := value.(string)
	switch string(kind[1]) {
	case "accept":
		end, err := receive(p.accepted, "a connection")
		p.current, p.links[text] = end, end
		return err
	case "on":
		p.current = p.links[text]
	case "expect":
		line, err := p.line()
		if err != nil {
			return err
		}
		return p.check(value, line)
	case "expect_all":
		var lines []any
		for range value.([]any) {
			line, err := p.line()
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
		return p.check(map[string]any{"$set": value}, lines)
	case "expect_end":
		if line, err := receive(p.current.lines, ""); err != nil || line != nil {
			return fmt.Errorf("got %v instead of the end: %w", line, err)
		}
	case "send":
		return p.send(value)
	case "send_raw":
		_, err := p.current.Write(p.raw(text))
		return err
	case "close":
		return p.current.Close()
	case "reset":
		_ = p.current.SetLinger(0)
		return p.current.Close()
	case "http":
		return p.http(value.(map[string]any), step["answer"].(map[string]any))
	case "entered", "interrupted":
		_, err := receive(p.gates.get(string(kind[1])+" "+text), "")
		return err
	case "finish":
		p.gates.pass("finish " + text)
	case "signal":
		p.stop()
	case "stopped":
		return p.stopped(value.(map[string]any))
	default:
		return fmt.Errorf("unknown step %s", kind[1])
	}
	return nil
}

// line returns the next line, if a node would understand it.
func (p *player) line() (map[string]any, error) {
	line, err := receive(p.current.lines, "a line")
	if err != nil {
		return nil, err
	}
	name, _ := line["op"].(string)
	op, known := p.ops[name]
	if !known {
		return nil, fmt.Errorf("unknown op in %.200v", line)
	}
	for _, member := range op.Required {
		if _, has := line[member]; !has {
			return nil, fmt.Errorf("%s without %s", name, member)
		}
	}
	for member := range line {
		if member != "id" && member != "op" && !slices.Contains(op.Required, member) && !slices.Contains(op.Optional, member) {
			return nil, fmt.Errorf("%s has no member %s", name, member)
		}
	}
	return line, nil
}

func (p *player) send(value any) error {
	list, several := value.([]any)
	if !several {
		list = []any{value}
	}
	var out bytes.Buffer
	for _, line := range list {
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(p.fill(line)); err != nil {
			return err
		}
	}
	_, err := p.current.Write(out.Bytes())
	return err
}

// raw turns the characters of a text into bytes.
func (p *player) raw(text string) []byte {
	for name, value := range p.captured {
		filled, _ := json.Marshal(value)
		text = strings.ReplaceAll(text, `"`+name+`"`, string(filled))
	}
	var out []byte
	for _, c := range text {
		out = append(out, byte(c))
	}
	return out
}

func (p *player) http(want, answer map[string]any) error {
	q, err := receive(p.requests, "a request")
	if err != nil {
		return err
	}
	headers := map[string]any{}
	for name := range q.Header {
		headers[strings.ToLower(name)] = q.Header.Get(name)
	}
	var body any
	_ = json.Unmarshal(q.body, &body) // a GET has none
	got := map[string]any{"method": q.Method, "path": q.URL.RequestURI(), "headers": headers, "body": body}
	text, _ := json.Marshal(p.fill(answer["json"]))
	status := int(answer["status"].(float64))
	q.answer <- fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(text), text)
	return p.check(want, got)
}

func (p *player) stopped(want map[string]any) error {
	failure, err := receive(p.ended, "the end of the worker")
	if err != nil {
		return err
	}
	p.ended <- failure
	text, wanted := want["error"].(string)
	if wanted != (failure != nil) || wanted && !strings.Contains(failure.Error(), text) {
		return fmt.Errorf("the worker stopped with %v", failure)
	}
	return nil
}

func (p *player) check(pattern, value any) error {
	if !p.matches(pattern, value) {
		return fmt.Errorf("got %.500v", value)
	}
	return nil
}

// matches reports whether a value matches a pattern.
func (p *player) matches(pattern, value any) bool {
	switch pattern := pattern.(type) {
	case string:
		return p.matchesText(pattern, value)
	case []any:
		list, ok := value.([]any)
		if !ok || len(list) != len(pattern) {
			return false
		}
		for i := range pattern {
			if !p.matches(pattern[i], list[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		return p.matchesObject(pattern, value)
	}
	return pattern == value
}

func (p *player) matchesText(pattern string, value any) bool {
	if pattern == "*" {
		return value != nil
	}
	if len(pattern) < 2 || pattern[0] != '$' {
		return pattern == value
	}
	if known, captured := p.captured[pattern]; captured {
		return reflect.DeepEqual(known, value)
	}
	p.captured[pattern] = value
	return true
}

func (p *player) matchesObject(pattern map[string]any, value any) bool {
	switch {
	case pattern["$contains"] != nil:
		text, ok := value.(string)
		return ok && strings.Contains(text, pattern["$contains"].(string))
	case pattern["$repeat"] != nil:
		return value == p.fill(pattern)
	case pattern["$either"] != nil:
		return slices.ContainsFunc(pattern["$either"].([]any), func(one any) bool { return p.matches(one, value) })
	case pattern["$set"] != nil:
		return p.matchesSet(pattern["$set"].([]any), value)
	}
	object, ok := value.(map[string]any)
	for name, member := range pattern {
		ok = ok && p.matches(member, object[name])
	}
	return ok
}

// matchesSet reports whether each pattern matches another one of the values.
func (p *player) matchesSet(patterns []any, value any) bool {
	list, ok := value.([]any)
	if !ok || len(list) != len(patterns) {
		return false
	}
	left := slices.Clone(list)
	for _, pattern := range patterns {
		i := slices.IndexFunc(left, func(one any) bool { return p.matches(pattern, one) })
		if i < 0 {
			return false
		}
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// fill replaces what stands for a value.
func (p *player) fill(value any) any {
	switch value := value.(type) {
	case string:
		if len(value) > 1 && value[0] == '$' {
			return p.captured[value]
		}
	case []any:
		list := make([]any, len(value))
		for i := range value {
			list[i] = p.fill(value[i])
		}
		return list
	case map[string]any:
		if repeat, ok := value["$repeat"].([]any); ok {
			return strings.Repeat(repeat[0].(string), int(repeat[1].(float64)))
		}
		object := map[string]any{}
		for name := range value {
			object[name] = p.fill(value[name])
		}
		return object
	}
	return value
}
