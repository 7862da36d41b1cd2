package load_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/chaos/load"
)

// serve answers lines like a node that knows little: each enqueue is queued and at once done, and
// other requests are refused. Each connection first receives a line that it did not request, and is cut
// after some lines, but for every third, which receives goaway.
func serve(t *testing.T) (addr string) {
	t.Helper()
	var tasks, conns atomic.Int64
	return testenv.Serve(t, func(conn net.Conn) { answer(conn, int(conns.Add(1)), &tasks) })
}

func answer(conn net.Conn, number int, tasks *atomic.Int64) {
	defer conn.Close()
	fmt.Fprintln(conn, `{"id":999999,"status":"done"}`)
	in := bufio.NewScanner(conn)
	in.Buffer(nil, 1<<20)
	for line := 1; in.Scan(); line++ {
		var r struct {
			ID   int
			Op   string
			Wait bool
		}
		if json.Unmarshal(in.Bytes(), &r) != nil {
			return
		}
		switch {
		case line == 20 && number%3 != 0:
			return
		case line == 20:
			fmt.Fprintln(conn, `{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
			fallthrough
		case r.Op != "enqueue":
			fmt.Fprintf(conn, `{"id":%d,"status":"error","code":"unavailable"}`+"\n", r.ID)
			continue
		}
		task := tasks.Add(1)
		fmt.Fprintf(conn, `{"id":%d,"status":"queued","task":"t%d"}`+"\n", r.ID, task)
		if r.Wait {
			fmt.Fprintf(conn, `{"id":%d,"status":"done","task":"t%d","attempt":1}`+"\n", r.ID, task)
		}
	}
}

func TestEveryRequestIsNotedAndSoIsWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	logs, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := load.New(load.Config{Addrs: []string{serve(t), serve(t)}, Seed: 1, Tasks: 300, Poison: 3, Connections: 4, Began: time.Now(), Events: logs.Clients})
	enough := make(chan struct{})
	close(enough)
	l.Run(t.Context(), enough)
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	run, err := history.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	asked, ended, nonces := map[int]*history.Ask{}, map[int]int{}, map[string]bool{}
	poison, kinds := map[string]bool{}, map[history.Kind]int{}
	for _, e := range run.Clients {
		kinds[e.Kind]++
		switch {
		case e.Kind == history.Invoke:
			asked[e.ID] = e.Ask
			if strings.HasSuffix(e.Ask.Action, ".kill") {
				poison[e.Ask.Nonce] = true
			}
			nonces[e.Ask.Nonce] = true
		case e.Kind == history.Stray:
		case asked[e.ID] == nil:
			t.Errorf("request %d was answered and not made", e.ID)
		case !asked[e.ID].Wait || e.Kind != history.OK || e.Reply.Status == "done":
			ended[e.ID]++
		}
	}
	for id := range asked {
		if ended[id] != 1 {
			t.Errorf("request %d has %d ends", id, ended[id])
		}
	}
	if len(nonces) < 300 || len(poison) != 3 || l.Sent() < 300 {
		t.Errorf("%d nonces, %d poison, %d sent", len(nonces), len(poison), l.Sent())
	}
	if kinds[history.OK] == 0 || kinds[history.Fail] == 0 || kinds[history.Info] == 0 || kinds[history.Stray] == 0 {
		t.Errorf("events: %v", kinds)
	}
}
