package cli

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAServerOutlivesTheReaderOfItsLog is `posta up 2>&1 | tee log` after Ctrl-C, which ends tee as well.
func TestAServerOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	addr := testenv.FreeAddr(t)
	for name, args := range map[string][]string{
		"up": {"up", "--listen", addr, "--nodes", "127.0.0.1:0", "--data", "", "--log-level", "debug"},
	} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(testenv.Posta(t), args...)
		command.Stdout, command.Stderr = writer, writer
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		var conn net.Conn
		testenv.Eventually(t, patience, func() (err error) { conn, err = net.Dial("tcp", addr); return err })
		conn.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(conn)
		fmt.Fprintln(conn, `{"id":1,"action":"sleep","payload":1}`)
		fmt.Fprintln(conn, `{"id":2,"op":"ping"}`)
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "pong") {
			t.Fatalf("%s: %q, %v", name, line, err)
		}
		reader.Close() // from now on every line of the log is refused
		if err := command.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		answered := false
		for line := ""; err == nil; line, err = in.ReadString('\n') {
			answered = answered || strings.Contains(line, `"slept":1`)
		}
		if !answered {
			t.Errorf("%s: the task that ran was lost", name)
		}
		conn.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("%s ends with %v", name, err)
		}
	}
}
