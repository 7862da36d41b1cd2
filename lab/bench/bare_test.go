package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/bench/load"
)

func TestBareServerAnswersEveryLineWhereverItIsCut(t *testing.T) {
	t.Parallel()
	bare := &bareServer{reply: load.SampleReply()}
	for name, serve := range map[string]func(net.Conn){"one buffer": bare.serve, "two buffers": bare.serveBuffered} {
		conn, err := net.Dial("tcp", testenv.Serve(t, serve))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
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
	conn, err := net.Dial("tcp", testenv.Serve(t, (&bareServer{reply: load.SampleReply()}).serve))
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
