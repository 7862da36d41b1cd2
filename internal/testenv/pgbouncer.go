package testenv

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// PgBouncer is a PgBouncer in front of a PostgreSQL server, in transaction mode. It has its default settings, but
// allows more than 100 clients.
type PgBouncer struct {
	*Process
	addr string
}

// StartPgBouncer starts a PgBouncer with additional settings, such as "ignore_startup_parameters = search_path",
// and stops it at the end of the test. Like PostgreSQL it does not run as root.
func StartPgBouncer(t testing.TB, p *Postgres, settings ...string) *PgBouncer {
	t.Helper()
	NeedServer(t, "pgbouncer")
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	b := &PgBouncer{addr: FreeAddr(t)}
	listenHost, listenPort, err := net.SplitHostPort(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[databases]\n* = host=%s port=%s user=posta\n[pgbouncer]\nlisten_addr = %s\nlisten_port = %s\n"+
		"unix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 1000\n%s\n",
		host, port, listenHost, listenPort, strings.Join(settings, "\n"))
	file := filepath.Join(p.dir, "pgbouncer-"+listenPort+".ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := locate("pgbouncer")
	if err != nil {
		t.Fatal(err)
	}
	command := p.command("", file)
	command.Path, command.Args[0] = program, program
	b.Process = StartCommand(t, command)
	// This must come before the usual end, in which PgBouncer waits until its clients disconnect.
	t.Cleanup(func() { b.Signal(syscall.SIGTERM) })
	b.await(t, b.addr)
	return b
}

// Through returns the URL of the server through the PgBouncer.
func (b *PgBouncer) Through(p *Postgres, url string) string {
	return strings.Replace(url, p.addr, b.addr, 1)
}
