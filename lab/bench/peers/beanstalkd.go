package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
)

const (
	// beanstalkWorkers is how many connections reserve and delete tasks, and beanstalkAhead how many tasks each
	// reserves at once if there are many.
	beanstalkWorkers = 16
	beanstalkAhead   = 32
)

// beanstalk is a client of beanstalkd. A task has run when its deletion is acknowledged.
type beanstalk struct {
	addr    string
	times   *clock
	deleted atomic.Int64
	workers []net.Conn
}

func openBeanstalkd(_ context.Context, addr string, times *clock) (peer, error) {
	b := &beanstalk{addr: addr, times: times}
	for range beanstalkWorkers {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.close()
			return nil, err
		}
		b.workers = append(b.workers, conn)
		go b.work(conn)
	}
	return b, nil
}

func (b *beanstalk) finished() (int64, error) { return b.deleted.Load(), nil }
func (b *beanstalk) forget() error            { return nil }

func (b *beanstalk) close() {
	for _, conn := range b.workers {
		conn.Close()
	}
}

// work reserves and deletes tasks until the connection is closed. It waits for one task, takes all others that are
// ready, and deletes all of them in one write. Replies come in the order of the commands, so only commands that are
// answered at once may follow a wait.
func (b *beanstalk) work(conn net.Conn) {
	in := bufio.NewReader(conn)
	var out []byte
	var held []job
	for ahead := 1; ; ahead = min(beanstalkAhead, 2*len(held)) {
		out = append(out, "reserve\r\n"...)
		for range ahead - 1 {
			out = append(out, "reserve-with-timeout 0\r\n"...)
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
		if b.deletions(in, held) != nil {
			return
		}
		var err error
		if held, err = reserved(in, held[:0], ahead); err != nil {
			return
		}
		out = out[:0]
		for _, j := range held {
			out = fmt.Appendf(out, "delete %d\r\n", j.id)
		}
	}
}

// job is a reserved task.
type job struct{ id, number int64 }

// deletions reads the replies to n deletions.
func (b *beanstalk) deletions(in *bufio.Reader, held []job) error {
	for _, j := range held {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if string(line) != "DELETED\r\n" {
			return fmt.Errorf("beanstalkd answered %q", line)
		}
		b.times.done(j.number)
		b.deleted.Add(1)
	}
	return nil
}

// reserved reads the replies to n reservations.
func reserved(in *bufio.Reader, held []job, replies int) ([]job, error) {
	for range replies {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return held, err
		}
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue // no task is ready
		}
		id, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return held, err
		}
		body, err := in.ReadSlice('\n')
		if err != nil {
			return held, err
		}
		number, err := strconv.ParseInt(string(bytes.TrimSpace(body[4:])), 10, 64)
		if err != nil {
			return held, err
		}
		held = append(held, job{id, number})
	}
	return held, nil
}

// beanstalkProducer is one connection.
type beanstalkProducer struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

func (b *beanstalk) producer(worked bool) (producer, error) {
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		return nil, err
	}
	p := &beanstalkProducer{conn: conn, in: bufio.NewReader(conn)}
	if worked {
		return p, nil
	}
	if _, err := conn.Write([]byte("use backlog\r\n")); err != nil {
		return nil, err
	}
	_, err = p.in.ReadSlice('\n')
	return p, err
}

func (p *beanstalkProducer) enqueue(numbers []int64) error {
	p.out = p.out[:0]
	for _, n := range numbers {
		p.out = fmt.Appendf(p.out, "put 1024 0 60 16\r\nhola%012d\r\n", n)
	}
	if _, err := p.conn.Write(p.out); err != nil {
		return err
	}
	for range numbers {
		line, err := p.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte("INSERTED ")) {
			return fmt.Errorf("beanstalkd answered %q", line)
		}
	}
	return nil
}

func (p *beanstalkProducer) close() { p.conn.Close() }
