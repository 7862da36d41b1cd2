package node_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// budgetMiB is the budget of the node in the tests of this file.
const budgetMiB = 32

// budgetFactor is how many bytes of resident memory a counted byte may need: the garbage collector lets the heap grow
// to twice the size of live data.
const budgetFactor = 2 * raceFactor

// budgetMargin is how many MiB the node may need in addition, for ordinary buffers of connections and goroutines.
const budgetMargin = 64

func budgetNode() node.Config {
	return node.Config{
		Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true},
		Limits: task.Limits{
			BufferedBytes: budgetMiB << 20, LineTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second, Connections: 1000, Slots: hostileSlots,
		},
	}
}

// TestAllClientsShareOneMemoryBudget lets many clients make a node buffer as much as they can, in every possible way.
// Each way would need several times the budget. The resident memory of the node grows by at most the budget times
// budgetFactor plus the margin, and the node serves others meanwhile.
func TestAllClientsShareOneMemoryBudget(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 20*time.Second)
	for _, step := range []struct {
		name string
		do   func(t *testing.T, server *nodeProcess) (end func())
	}{
		{"lines that are not completed", halfLines},
		{"bodies that are not completed", func(t *testing.T, s *nodeProcess) func() { return halfBodies(t, s, "Content-Length: 1000000") }},
		{"chunked bodies that are not completed", func(t *testing.T, s *nodeProcess) func() { return halfBodies(t, s, "Transfer-Encoding: chunked") }},
		{"waits", manyWaits},
		{"streams of tiny lines whose answers are not read", unreadStreams},
		{"replies that are not read", unreadReplies},
	} {
		t.Run(step.name, func(t *testing.T) {
			server := startNode(t, "budget")
			server.expectAlive(t)
			before := server.resident(t)
			end := step.do(t, server)
			server.expectServed(t)
			end()
			most := server.peak(t)
			t.Logf("resident: %d MiB before, at most %d MiB with a budget of %d MiB", before, most, budgetMiB)
			if most > before+budgetFactor*budgetMiB+budgetMargin {
				t.Errorf("the resident memory was %d MiB, before it was %d MiB; the budget is %d MiB", most, before, budgetMiB)
			}
			testenv.Eventually(t, patience, func() error {
				if n := server.buffered(t); n > 0 {
					return fmt.Errorf("%d bytes are counted although all clients are gone", n)
				}
				return nil
			})
		})
	}
}

// expectServed checks that the node answers health checks, cancels and small tasks.
func (p *nodeProcess) expectServed(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/healthz", "/readyz"} {
		p.get(t, path)
	}
	v := visit(t, p.addr)
	v.send(`{"id":1,"op":"cancel","task":"01J00000000000000000000000"}` + "\n")
	v.expect(`{"id":1,"status":"error","code":"not_found",…}`)
	v.expectPong()
	v.conn.Close()
}

// get returns the answer to a GET. It asks again when the connection is cut: on a busy machine the head of a request may
// come later than the node waits.
func (p *nodeProcess) get(t *testing.T, path string) (text []byte) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		client := http.Client{Timeout: patience}
		response, err := client.Get("http://" + p.addr + path)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", path, response.Status)
		}
		text, err = io.ReadAll(response.Body)
		return err
	})
	return text
}

// buffered returns the value of posta_buffered_bytes.
func (p *nodeProcess) buffered(t *testing.T) int {
	t.Helper()
	text := p.get(t, "/metrics")
	_, after, _ := strings.Cut(string(text), "\nposta_buffered_bytes ")
	n, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// untilBuffered waits until the node buffers this many MiB.
func (p *nodeProcess) untilBuffered(t *testing.T, mib int) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		if n := p.buffered(t); n < mib<<20 {
			return fmt.Errorf("%d bytes are counted", n)
		}
		return nil
	})
}

// each opens many connections to a node and uses them at once. end closes them.
func each(t *testing.T, server *nodeProcess, visits int, do func(v *visitor)) (end func()) {
	list := make([]*visitor, visits)
	for i := range list {
		list[i] = visit(t, server.addr)
	}
	var all sync.WaitGroup
	for _, v := range list {
		all.Go(func() { do(v) })
	}
	return func() {
		for _, v := range list {
			v.reset()
		}
		all.Wait()
	}
}

func halfLines(t *testing.T, server *nodeProcess) func() {
	half := `{"id":1,"payload":"` + strings.Repeat("x", 900<<10)
	var mu sync.Mutex
	answers := map[string]int{}
	end := each(t, server, 160, func(v *visitor) {
		_, _ = io.WriteString(v.conn, half)
		line, err := v.in.ReadString('\n')
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			answers[err.Error()]++
		case looksLike(line, `{"id":null,"status":"error","code":"overloaded","error":"…","limit":"max-buffered","retry_after":1}`+"\n"):
			answers["overloaded"]++
		case strings.Contains(line, `"code":"line_timeout"`):
			answers["line_timeout"]++
		default:
			answers[short(line)]++
		}
	})
	server.untilBuffered(t, budgetMiB*3/4)
	return func() {
		testenv.Eventually(t, patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if answers["overloaded"]+answers["line_timeout"] < 160 {
				return fmt.Errorf("the answers to 160 clients are %v", answers)
			}
			return nil
		})
		end()
	}
}

func halfBodies(t *testing.T, server *nodeProcess, length string) func() {
	head := "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + length + "\r\n\r\n"
	if strings.Contains(length, "chunked") {
		head += "f4240\r\n"
	}
	half := head + `{"id":1,"payload":"` + strings.Repeat("x", 900<<10)
	var mu sync.Mutex
	answers := map[string]int{}
	end := each(t, server, 160, func(v *visitor) {
		_, _ = io.WriteString(v.conn, half)
		line, err := v.in.ReadString('\n')
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			line = err.Error()
		}
		answers[strings.TrimSpace(line)]++
	})
	server.untilBuffered(t, budgetMiB*3/4)
	return func() {
		testenv.Eventually(t, patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if answers["HTTP/1.1 503 Service Unavailable"]+answers["HTTP/1.1 408 Request Timeout"] < 160 {
				return fmt.Errorf("the answers to 160 clients are %v", answers)
			}
			return nil
		})
		end()
	}
}

func manyWaits(t *testing.T, server *nodeProcess) func() {
	v := visit(t, server.addr)
	id := v.accepted(`"action":"echo","delay":1000`, "scheduled")
	lines := strings.Repeat(`{"id":1,"op":"wait","task":"`+id+`"}`+"\n", 1000)
	var refused sync.WaitGroup
	refused.Add(1)
	first := sync.OnceFunc(refused.Done)
	end := each(t, server, 15, func(v *visitor) {
		go func() { _, _ = io.WriteString(v.conn, lines) }()
		for {
			line, err := v.in.ReadString('\n')
			if err != nil {
				first()
				return
			}
			if !looksLike(line, `{"id":1,"status":"error","code":"overloaded","error":"…","limit":"max-buffered","retry_after":1}`+"\n") {
				t.Errorf("the reply to a wait is %s", short(line))
			}
			first()
		}
	})
	refused.Wait()
	server.untilBuffered(t, budgetMiB*3/4-1)
	return end
}

func unreadStreams(t *testing.T, server *nodeProcess) func() {
	const lines = 5 << 20
	head := fmt.Sprintf("POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", lines)
	body := head + strings.Repeat("1\n", lines/2)
	var sent sync.WaitGroup
	sent.Add(20)
	end := each(t, server, 20, func(v *visitor) {
		_ = v.conn.SetReadBuffer(4 << 10)
		_, err := io.WriteString(v.conn, body)
		sent.Done()
		if err == nil {
			t.Error("the node accepts 5 MiB of lines from a client that does not read")
		}
	})
	sent.Wait()
	return end
}

func unreadReplies(t *testing.T, server *nodeProcess) func() {
	v := visit(t, server.addr)
	id := v.accepted(`"action":"echo","payload":"`+strings.Repeat("x", 60_000)+`","wait":true`, "queued")
	if _, err := v.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	lines := strings.Repeat(`{"id":1,"op":"get","task":"`+id+`"}`+"\n", 1000)
	var cut sync.WaitGroup
	cut.Add(30)
	end := each(t, server, 30, func(v *visitor) {
		_ = v.conn.SetReadBuffer(4 << 10)
		for {
			if _, err := io.WriteString(v.conn, lines); err != nil && !errors.Is(err, io.EOF) {
				cut.Done()
				return
			}
		}
	})
	server.untilBuffered(t, budgetMiB/2)
	return func() {
		cut.Wait()
		end()
	}
}

// TestRequestsThatNeedMemoryAreRefusedWhenTheBudgetIsUsedUp tries every op and route of a node whose budget is used up.
func TestRequestsThatNeedMemoryAreRefusedWhenTheBudgetIsUsedUp(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{
		Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true}, Limits: task.Limits{BufferedBytes: 1},
	})
	const id = "01J00000000000000000000000"
	const full = `{"id":1,"status":"error","code":"overloaded","error":"…","limit":"max-buffered","retry_after":1}`
	v := visit(t, server.addr)
	for line, want := range map[string]string{
		echo("1"):                                       echoed("1"),
		`{"id":1,"op":"ping"}`:                          done("1", `true,"data":"pong"`),
		`{"id":1,"op":"info"}`:                          done("1", `true,"node":…`),
		`{"id":1,"op":"auth","token":"x"}`:              done("1", `true,"name":…`),
		`{"id":1,"op":"cancel","task":"ID"}`:            `{"id":1,"status":"error","code":"not_found",…}`,
		`{"id":1,"op":"cancel","filter":{"queue":"q"}}`: done("1", `true,"matched":0,…`),
		`{"id":1,"op":"retry","task":"ID"}`:             `{"id":1,"status":"error","code":"not_found",…}`,
		`{"id":1,"op":"pause","queue":"q"}`:             `{"id":1,"status":"error","code":"not_found",…}`,
		`{"id":1,"op":"resume","queue":"q"}`:            `{"id":1,"status":"error","code":"not_found",…}`,
		`{"id":1,"action":"sleep","payload":0}`:         full,
		`{"id":1,"op":"enqueue","action":"echo"}`:       full,
		`{"id":1,"op":"get","task":"ID"}`:               full,
		`{"id":1,"op":"wait","task":"ID"}`:              full,
		`{"id":1,"op":"watch","task":"ID"}`:             full,
		`{"id":1,"op":"list"}`:                          full,
		`{"id":1,"op":"queues"}`:                        full,
	} {
		v.send(strings.ReplaceAll(line, "ID", id) + "\n")
		if got, err := v.next(); err != nil || !looksLike(got, want) {
			t.Errorf("the reply to %s\n is %s, %v\nwant %s", line, got, err, want)
		}
	}
	const small, large = `{"id":1,"action":"echo"}`, `{"id":1,"action":"echo","payload":"` // and 5 KiB
	client := http.Client{Timeout: patience}
	for _, c := range []struct {
		method, path, body string
		status             int
		headers            []string
	}{
		{"GET", "/healthz", "", 200, nil},
		{"GET", "/readyz", "", 200, nil},
		{"GET", "/metrics", "", 200, nil},
		{"GET", "/openapi.json", "", 200, nil},
		{"POST", "/v1/run", small, 200, nil},
		{"POST", "/v1/run", large, 503, nil},
		{"POST", "/v1/tasks", small, 202, nil},
		{"POST", "/v1/tasks", large, 503, nil},
		{"POST", "/v1/tasks", small, 503, []string{"Content-Type", "application/x-ndjson"}},
		{"POST", "/v1/tasks/cancel", `{"filter":{"queue":"q"}}`, 200, nil},
		{"POST", "/v1/tasks/ID/cancel", "", 404, nil},
		{"POST", "/v1/queues/q/pause", "", 404, nil},
		{"GET", "/v1/tasks", "", 503, nil},
		{"GET", "/v1/tasks/ID", "", 503, nil},
		{"GET", "/v1/tasks/ID?wait=9", "", 503, nil},
		{"GET", "/v1/tasks/ID/payload", "", 503, nil},
		{"GET", "/v1/tasks/ID/result", "", 503, nil},
		{"GET", "/v1/queues", "", 503, nil},
		{"GET", "/v1/nodes", "", 503, nil},
		{"PUT", "/v1/blobs", small, 503, nil},
		{"GET", "/v1/socket", "", 503, []string{"Connection", "upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}},
	} {
		if c.body == large {
			c.body += strings.Repeat("x", 5<<10) + `"}`
		}
		request, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+server.addr+strings.ReplaceAll(c.path, "ID", id), strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(c.headers); i += 2 {
			request.Header.Set(c.headers[i], c.headers[i+1])
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s %s answers %s %s, want %d", c.method, c.path, response.Status, text, c.status)
		}
		if c.status == 503 && (response.Header.Get("Retry-After") != "1" || !strings.Contains(string(text), `"limit":"max-buffered"`)) {
			t.Errorf("%s %s answers %v %s, which names neither the limit nor a time to retry", c.method, c.path, response.Header, text)
		}
	}
}
