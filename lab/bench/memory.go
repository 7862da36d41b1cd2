package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

const (
	// burstTime is how long bursts are repeated.
	burstTime = 3 * time.Second
	// burstLimit is the timeout of one burst of tasks that sleep.
	burstLimit = 30 * time.Second
	// deafTime is how long the client that does not read tries to write.
	deafTime    = 3 * time.Second
	memoryWatch = 10 * time.Millisecond
)

// memoryRow is the resident memory of a node, in bytes, under one kind of pipelining.
type memoryRow struct {
	Load   string `json:"load"`
	Tasks  int    `json:"tasks"`
	Before int64  `json:"before"`
	Peak   int64  `json:"peak"`
}

// pipelining is one way to keep a connection full.
type pipelining struct {
	name string
	run  func(ctx context.Context, addr string) (tasks int, err error)
}

// pipelinedMemory measures the memory of a node while one client sends far more than is answered at once. Each kind
// of pipelining has its own node.
func (b *bench) pipelinedMemory(ctx context.Context) (report.Section, error) {
	burst := report.Thousands(float64(b.burst))
	kinds := []pipelining{
		{burst + " `upper` in one burst, repeated", b.uppers},
		{burst + " `sleep` of 10 ms in one burst", b.sleeps},
		{"`upper` without end, replies never read", b.deaf},
	}
	out := report.Section{
		Title: "Memory: one connection, pipelined",
		Head:  []string{"load", "tasks sent", "before", "peak", "growth"},
	}
	var data []memoryRow
	for _, kind := range kinds {
		row, err := b.watch(ctx, kind)
		if err != nil {
			return out, fmt.Errorf("%s: %w", kind.name, err)
		}
		data = append(data, row)
		out.Rows = append(out.Rows, []string{
			row.Load, report.Thousands(float64(row.Tasks)), report.Mebibytes(row.Before), report.Mebibytes(row.Peak), report.Mebibytes(row.Peak - row.Before),
		})
	}
	out.Data = data
	return out, nil
}

// watch runs one kind of pipelining on a new node and returns the largest resident memory.
func (b *bench) watch(ctx context.Context, kind pipelining) (memoryRow, error) {
	row := memoryRow{Load: kind.name}
	server, _, err := b.subject(ctx)
	if err != nil {
		return row, err
	}
	defer b.lab.End(server)
	pid := server.Pid()
	if row.Before, err = b.settledMemory(ctx, pid); err != nil {
		return row, err
	}
	over := make(chan error, 1)
	go func() {
		var err error
		row.Tasks, err = kind.run(ctx, server.Addr)
		over <- err
	}()
	for ticker := time.Tick(memoryWatch); ; {
		now, err := load.Memory(pid, "VmRSS")
		if err != nil {
			return row, err
		}
		row.Peak = max(row.Peak, now)
		select {
		case err := <-over:
			return row, err
		case <-ticker:
		}
	}
}

// uppers repeats the burst for a while, which would show a leak.
func (b *bench) uppers(ctx context.Context, addr string) (int, error) {
	tasks := 0
	for end := time.Now().Add(min(burstTime, 20*b.timing.Measured)); time.Now().Before(end); {
		done, err := b.oneBurst(ctx, addr, `{"id":%d,"action":"upper","payload":"hola"}`+"\n")
		tasks += done
		if err != nil {
			return tasks, err
		}
	}
	return tasks, nil
}

func (b *bench) sleeps(ctx context.Context, addr string) (int, error) {
	return b.oneBurst(ctx, addr, `{"id":%d,"action":"sleep","payload":0.01}`+"\n")
}

// oneBurst writes all requests as fast as the server accepts them, and reads the replies meanwhile.
func (b *bench) oneBurst(ctx context.Context, addr, request string) (int, error) {
	conn, err := load.Dial(ctx, addr, burstLimit)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var lines []byte
	for i := range b.burst {
		lines = fmt.Appendf(lines, request, load.FirstID+i)
	}
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(lines)
		written <- err
	}()
	done := 0
	for replies := bufio.NewScanner(conn); done < b.burst && replies.Scan(); done++ {
		if !bytes.Contains(replies.Bytes(), []byte(`"ok":true`)) {
			return done, load.Unexpected(replies.Bytes())
		}
	}
	if done < b.burst {
		return done, fmt.Errorf("only %d of %d tasks were answered", done, b.burst)
	}
	return done, <-written
}

// deaf writes until the server accepts no more, or ends the connection. Both are right; memory must not grow.
func (b *bench) deaf(ctx context.Context, addr string) (int, error) {
	conn, err := load.Dial(ctx, addr, min(deafTime, 20*b.timing.Measured))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	script := load.NewScript(0, 128, "upper")
	for tasks := 0; ; tasks += 128 {
		_, err := conn.Write(script.Take(128))
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, new(*net.OpError)) {
			return tasks, nil
		}
		if err != nil {
			return tasks, err
		}
	}
}
