package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// reply returns an error of the server.
func reply(severity, code, message string) error {
	return fmt.Errorf("x: %w", &pgconn.PgError{Severity: severity, Code: code, Message: message})
}

// TestErrorsOfTheDatabase checks what each error means to a node that starts, and to the caller of a change
// that failed with it.
func TestErrorsOfTheDatabase(t *testing.T) {
	t.Parallel()
	fatal := func(code string) error { return reply("FATAL", code, "") }
	failed := func(code string) error { return reply("ERROR", code, "") }
	bouncer := func(message string) error { return reply("FATAL", "08P01", message) }
	for name, c := range map[string]struct {
		err    error
		remedy remedy
		code   task.Code
	}{
		"the server starts":                        {fatal("57P03"), wait, task.UnknownOutcome},
		"the server stops":                         {fatal("57P01"), wait, task.UnknownOutcome},
		"no connection is free":                    {&unreachedError{fatal("53300")}, wait, task.Unavailable},
		"the server has become a standby":          {failed("25006"), wait, task.Unavailable},
		"the statement took too long":              {failed("57014"), wait, task.Unavailable},
		"a lock was not available":                 {failed("55P03"), wait, task.Unavailable},
		"the disk is full":                         {failed("53100"), wait, task.Unavailable},
		"a deadlock":                               {failed("40P01"), repeat, task.Unavailable},
		"a serialization failure":                  {failed("40001"), repeat, task.Unavailable},
		"the connection failed":                    {fatal("08006"), wait, task.UnknownOutcome},
		"a lost connection":                        {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), wait, task.UnknownOutcome},
		"a lost connection before the COMMIT":      {&undoneError{io.ErrUnexpectedEOF}, wait, task.Unavailable},
		"no answer":                                {context.DeadlineExceeded, wait, task.UnknownOutcome},
		"an unknown name":                          {&unreachedError{&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}}, wait, task.Unavailable},
		"a wrong password":                         {&unreachedError{fatal("28P01")}, reconfigure, task.Unavailable},
		"the user may not connect":                 {&unreachedError{fatal("28000")}, reconfigure, task.Unavailable},
		"no such database":                         {&unreachedError{fatal("3D000")}, reconfigure, task.Unavailable},
		"no such schema":                           {failed("3F000"), reconfigure, task.Unavailable},
		"no such table":                            {failed("42P01"), reconfigure, task.Unavailable},
		"no right":                                 {failed("42501"), reconfigure, task.Unavailable},
		"refused":                                  {&unreachedError{fatal("08004")}, reconfigure, task.Unavailable},
		"a missing prepared statement":             {failed("26000"), reconfigure, task.Unavailable},
		"a prepared statement of another session":  {failed("42P05"), reconfigure, task.Unavailable},
		"PgBouncer knows no such setting":          {&unreachedError{bouncer("unsupported startup parameter: search_path")}, reconfigure, task.Unavailable},
		"PgBouncer pools statements":               {failed("08P01"), reconfigure, task.Unavailable},
		"PgBouncer does not know the user":         {&unreachedError{bouncer("no such user: posta")}, reconfigure, task.Unavailable},
		"PgBouncer cannot connect":                 {&unreachedError{bouncer("pgbouncer cannot connect to server")}, wait, task.Unavailable},
		"PgBouncer has not connected for a while":  {&unreachedError{bouncer("server login has been failing, try repeat later (server_login_retry)")}, wait, task.Unavailable},
		"PgBouncer has no connection free":         {&unreachedError{bouncer("no more connections allowed (max_client_conn)")}, wait, task.Unavailable},
		"PgBouncer's server died in a call":        {&undoneError{bouncer("server conn crashed?")}, wait, task.Unavailable},
		"PgBouncer's server died in the COMMIT":    {bouncer("server conn crashed?"), wait, task.UnknownOutcome},
		"another error of PgBouncer in the COMMIT": {bouncer("something else"), reconfigure, task.UnknownOutcome},
		"the server's certificate is not trusted":  {&unreachedError{&tls.CertificateVerificationError{Err: errors.New("unknown")}}, reconfigure, task.Unavailable},
		"our certificate is not trusted":           {&unreachedError{&net.OpError{Op: "remote error", Err: tls.AlertError(48)}}, reconfigure, task.Unavailable},
		"no TLS":                                   {&unreachedError{errors.New("server refused TLS connection")}, reconfigure, task.Unavailable},
		"a broken statement":                       {failed("42601"), none, task.Internal},
		"a broken value":                           {failed("22021"), none, task.Internal},
		"a violated constraint":                    {failed("23514"), none, task.Internal},
		"a damaged row":                            {fmt.Errorf("task 1: %w", pack.ErrDamaged), none, task.Internal},
		"a damaged row before the COMMIT":          {&undoneError{pack.ErrDamaged}, none, task.Internal},
		"our own refusal":                          {&undoneError{task.Refuse(task.Overloaded, "full")}, none, task.Overloaded},
		"anything else":                            {errors.New("the schema has version 9"), none, task.UnknownOutcome},
	} {
		if got := classify(c.err).remedy; got != c.remedy {
			t.Errorf("%s: the remedy is %d, want %d", name, got, c.remedy)
		}
		if got := Away(c.err); got != (c.remedy == wait || c.remedy == repeat) {
			t.Errorf("%s: temporary is %t", name, got)
		}
		if problem, fix := Explain(c.err); (problem != "" && fix != "") != (c.remedy == reconfigure) {
			t.Errorf("%s: explained as %q and %q", name, problem, fix)
		}
		if got := task.CodeOf(refuse(c.err, true)); got != c.code {
			t.Errorf("%s: the code is %s, want %s", name, got, c.code)
		}
		if got := task.CodeOf(refuse(c.err, false)); c.code == task.UnknownOutcome && got != task.Unavailable {
			t.Errorf("%s: the code of a read is %s", name, got)
		}
	}
}

// TestClientsDoNotGetMessagesOfTheDatabase checks that hosts, users and messages of the driver are not in the
// refusal that a client gets, but in the log.
func TestClientsDoNotGetMessagesOfTheDatabase(t *testing.T) {
	t.Parallel()
	cause := &unreachedError{fmt.Errorf("failed to connect to `user=maria database=db`:\n\tdb.internal:5432: %w", &pgconn.PgError{Severity: "FATAL", Code: "28P01"})}
	err := refuse(cause, true)
	var refusal *task.Error
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	refusalText := refusal.Message + refusal.Detail
	for _, secret := range []string{"maria", "db.internal", "\n", "28P01", "connect to"} {
		if strings.Contains(refusalText, secret) {
			t.Errorf("%q is in %q", secret, refusalText)
		}
	}
	for _, needed := range []string{"maria", "db.internal", "28P01", "password"} {
		if !strings.Contains(err.Error(), needed) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the log has %q, without %q or in several lines", err, needed)
		}
	}
}

// TestAnErrorOfAConnectionSaysEachReasonOnce uses an error of pgx, which tries to connect with TLS and without.
func TestAnErrorOfAConnectionSaysEachReasonOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := Open(ctx, Config{URL: "postgres://u@127.0.0.1:1/d?sslmode=prefer", Steps: fstest.MapFS{}})
	if err == nil || strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "connection refused") != 1 {
		t.Errorf("%v", err)
	}
}

// TestAServerThatDoesNotListenIsTemporary uses the errors of pgx itself.
func TestAServerThatDoesNotListenIsTemporary(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u@127.0.0.1:1/d?sslmode=disable", "postgres://u@nowhere.invalid/d?sslmode=disable"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := Open(ctx, Config{URL: url, Steps: fstest.MapFS{}})
		cancel()
		if err == nil || !Away(err) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
