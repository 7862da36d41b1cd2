package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// server answers connections with the given function until the test ends.
func server(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().String()
}

// answering answers each line with what reply makes of its id; no reply is an empty one.
func answering(reply func(id string) string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			id := lines.Text()[len(replyHead) : len(replyHead)+idWidth]
			if _, err := conn.Write([]byte(reply(id))); err != nil {
				return
			}
		}
	}
}

func done(id string) string { return replyHead + id + replyTail }

func short() timing { return timing{warmup: 5 * time.Millisecond, measured: 20 * time.Millisecond} }

func TestMeasureCountsTheReplies(t *testing.T) {
	t.Parallel()
	to := target{addr: server(t, answering(done))}
	for _, s := range []shape{{1, 1}, {3, 1}, {2, 16}} {
		got, err := measure(t.Context(), to, s, short())
		if err != nil {
			t.Fatalf("%v: %v", s, err)
		}
		if got.Rate <= 0 || (s.Depth == 1) != (got.P50 > 0) || got.P99 < got.P50 {
			t.Errorf("%v: implausible: %+v", s, got)
		}
	}
}

func TestMeasureFailsOnAWrongReply(t *testing.T) {
	t.Parallel()
	refused := func(id string) string {
		return fmt.Sprintf(`{"id":%s,"status":"error","code":"overloaded","error":"no"}`+"\n", id)
	}
	foreign := func(string) string { return done("99999999") }
	twice := func(id string) string { return done(id) + done(id) }
	for name, reply := range map[string]func(string) string{"overloaded": refused, "never sent": foreign, "at most": twice} {
		_, err := measure(t.Context(), target{addr: server(t, answering(reply))}, shape{1, 1}, short())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestMeasureFailsWhenAConnectionBreaks(t *testing.T) {
	t.Parallel()
	to := target{addr: server(t, func(conn net.Conn) { conn.Close() })}
	if _, err := measure(t.Context(), to, shape{2, 4}, short()); err == nil {
		t.Error("a load on connections that break succeeded")
	}
}

func TestMeasureStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := measure(ctx, target{addr: server(t, answering(done))}, shape{1, 1}, timing{0, time.Hour}); err == nil {
		t.Error("an hour passed quickly")
	}
}

func TestVerifyFindsARepeatedID(t *testing.T) {
	t.Parallel()
	if err := verify(t.Context(), server(t, answering(done))); err != nil {
		t.Errorf("right replies: %v", err)
	}
	always := func(string) string { return done(fmt.Sprint(firstID)) }
	if err := verify(t.Context(), server(t, answering(always))); err == nil {
		t.Error("one id for all replies was accepted")
	}
}

func TestBareServerAnswersEveryLineWhereverItIsCut(t *testing.T) {
	t.Parallel()
	bare := &bareServer{reply: sampleReply()}
	for name, serve := range map[string]func(net.Conn){"one buffer": bare.serve, "two buffers": bare.serveBuffered} {
		conn, err := net.Dial("tcp", server(t, serve))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		for _, piece := range []string{"{", "}\n{}\n{", "}\n"} {
			fmt.Fprint(conn, piece)
		}
		replies := bufio.NewReader(conn)
		for range 3 {
			if line, err := replies.ReadBytes('\n'); err != nil || !bytes.Equal(line, bare.reply) {
				t.Errorf("%s: got %q, %v", name, line, err)
			}
		}
	}
}

func TestBareServerPassesHealthChecks(t *testing.T) {
	t.Parallel()
	conn, err := net.Dial("tcp", server(t, (&bareServer{reply: sampleReply()}).serve))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /readyz HTTP/1.0\r\n\r\n")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	if !strings.Contains(line, " 200 ") {
		t.Errorf("got %q", line)
	}
}

func TestScriptSendsDifferentIDsOfOneLength(t *testing.T) {
	t.Parallel()
	s := newScript(15, 128)
	var all []byte
	for range 5 {
		all = append(all, s.take(100)...)
	}
	seen := map[string]int{}
	for i, line := range strings.Split(strings.TrimSuffix(string(all), "\n"), "\n") {
		if len(line)+1 != s.size {
			t.Fatalf("line %d: %q", i, line)
		}
		if last, again := seen[line]; again && i-last < s.ring {
			t.Errorf("request %d repeats %d while that may be in flight", i, last)
		}
		seen[line] = i
	}
}
