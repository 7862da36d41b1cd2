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

// reply is an error of the server.
func reply(severity, code, message string) error {
	return fmt.Errorf("x: %w", &pgconn.PgError{Severity: severity, Code: code, Message: message})
}

// TestErrorsOfTheDatabase goes through what an error means: to a node that starts, and to a caller whose change it has met.
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
		"it starts":                                   {fatal("57P03"), wait, task.UnknownOutcome},
		"it stops":                                    {fatal("57P01"), wait, task.UnknownOutcome},
		"no connection is free":                       {&unreachedError{fatal("53300")}, wait, task.Unavailable},
		"it has become a standby":                     {failed("25006"), wait, task.Unavailable},
		"the statement took too long":                 {failed("57014"), wait, task.Unavailable},
		"a lock was not to be had":                    {failed("55P03"), wait, task.Unavailable},
		"its disk is full":                            {failed("53100"), wait, task.Unavailable},
		"a deadlock":                                  {failed("40P01"), again, task.Unavailable},
		"it could not be serialized":                  {failed("40001"), again, task.Unavailable},
		"the connection failed":                       {fatal("08006"), wait, task.UnknownOutcome},
		"a cut":                                       {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), wait, task.UnknownOutcome},
		"a cut before the COMMIT":                     {&undoneError{io.ErrUnexpectedEOF}, wait, task.Unavailable},
		"no answer":                                   {context.DeadlineExceeded, wait, task.UnknownOutcome},
		"an unknown name":                             {&unreachedError{&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}}, wait, task.Unavailable},
		"a wrong password":                            {&unreachedError{fatal("28P01")}, change, task.Unavailable},
		"nobody may come in so":                       {&unreachedError{fatal("28000")}, change, task.Unavailable},
		"no such database":                            {&unreachedError{fatal("3D000")}, change, task.Unavailable},
		"no such schema":                              {failed("3F000"), change, task.Unavailable},
		"no such table":                               {failed("42P01"), change, task.Unavailable},
		"no right":                                    {failed("42501"), change, task.Unavailable},
		"refused":                                     {&unreachedError{fatal("08004")}, change, task.Unavailable},
		"a statement that is not there":               {failed("26000"), change, task.Unavailable},
		"a statement that is another's":               {failed("42P05"), change, task.Unavailable},
		"PgBouncer knows no such setting":             {&unreachedError{bouncer("unsupported startup parameter: search_path")}, change, task.Unavailable},
		"PgBouncer pools statements":                  {failed("08P01"), change, task.Unavailable},
		"PgBouncer does not know the user":            {&unreachedError{bouncer("no such user: posta")}, change, task.Unavailable},
		"PgBouncer finds no server":                   {&unreachedError{bouncer("pgbouncer cannot connect to server")}, wait, task.Unavailable},
		"PgBouncer has found none for a while":        {&unreachedError{bouncer("server login has been failing, try again later (server_login_retry)")}, wait, task.Unavailable},
		"PgBouncer has no connection free":            {&unreachedError{bouncer("no more connections allowed (max_client_conn)")}, wait, task.Unavailable},
		"PgBouncer's server died in a call":           {&undoneError{bouncer("server conn crashed?")}, wait, task.Unavailable},
		"PgBouncer's server died in the COMMIT":       {bouncer("server conn crashed?"), wait, task.UnknownOutcome},
		"PgBouncer says something else in the COMMIT": {bouncer("something else"), change, task.UnknownOutcome},
		"another's certificate":                       {&unreachedError{&tls.CertificateVerificationError{Err: errors.New("unknown")}}, change, task.Unavailable},
		"our certificate":                             {&unreachedError{&net.OpError{Op: "remote error", Err: tls.AlertError(48)}}, change, task.Unavailable},
		"no TLS":                                      {&unreachedError{errors.New("server refused TLS connection")}, change, task.Unavailable},
		"a broken statement":                          {failed("42601"), none, task.Internal},
		"a broken value":                              {failed("22021"), none, task.Internal},
		"a broken rule":                               {failed("23514"), none, task.Internal},
		"a damaged row":                               {fmt.Errorf("task 1: %w", pack.ErrDamaged), none, task.Internal},
		"a damaged row before the COMMIT":             {&undoneError{pack.ErrDamaged}, none, task.Internal},
		"a refusal of ours":                           {&undoneError{task.Refuse(task.Overloaded, "full")}, none, task.Overloaded},
		"anything else":                               {errors.New("the schema has version 9"), none, task.UnknownOutcome},
	} {
		if got := classify(c.err).remedy; got != c.remedy {
			t.Errorf("%s: the remedy is %d, want %d", name, got, c.remedy)
		}
		if got := Away(c.err); got != (c.remedy == wait || c.remedy == again) {
			t.Errorf("%s: away is %t", name, got)
		}
		if says, fix := Explain(c.err); (says != "" && fix != "") != (c.remedy == change) {
			t.Errorf("%s: it says %q and %q", name, says, fix)
		}
		if got := task.CodeOf(refuse(c.err, true)); got != c.code {
			t.Errorf("%s: the code is %s, want %s", name, got, c.code)
		}
		if got := task.CodeOf(refuse(c.err, false)); c.code == task.UnknownOutcome && got != task.Unavailable {
			t.Errorf("%s: the code of a read is %s", name, got)
		}
	}
}

// TestClientsAreToldNothingOfTheDatabase looks for hosts, users and the driver's words in what a client is told, and finds them
// in the log's line.
func TestClientsAreToldNothingOfTheDatabase(t *testing.T) {
	t.Parallel()
	cause := &unreachedError{fmt.Errorf("failed to connect to `user=maria database=db`:\n\tdb.internal:5432: %w", &pgconn.PgError{Severity: "FATAL", Code: "28P01"})}
	err := refuse(cause, true)
	var refusal *task.Error
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	told := refusal.Message + refusal.Detail
	for _, secret := range []string{"maria", "db.internal", "\n", "28P01", "connect to"} {
		if strings.Contains(told, secret) {
			t.Errorf("%q is in %q", secret, told)
		}
	}
	for _, needed := range []string{"maria", "db.internal", "28P01", "password"} {
		if !strings.Contains(err.Error(), needed) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the log says %q, without %q or in several lines", err, needed)
		}
	}
}

// TestAServerThatDoesNotListenIsAway uses the library's own errors.
func TestAServerThatDoesNotListenIsAway(t *testing.T) {
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
