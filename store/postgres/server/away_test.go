package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestOnlyWhatPassesIsWaitedFor(t *testing.T) {
	t.Parallel()
	code := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Severity: "FATAL", Code: code}) }
	for name, c := range map[string]struct {
		err  error
		away bool
	}{
		"it starts":               {code("57P03"), true},
		"it stops":                {code("57P01"), true},
		"no connection is free":   {code("53300"), true},
		"it has become a standby": {code("25006"), true},
		"a cut":                   {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true},
		"an unknown name":         {&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}, true},
		"a wrong password":        {code("28P01"), false},
		"nobody may come in so":   {code("28000"), false},
		"no such database":        {code("3D000"), false},
		"no right":                {code("42501"), false},
		"a broken migration":      {code("42601"), false},
		"another's certificate":   {fmt.Errorf("x: %w", &tls.CertificateVerificationError{Err: errors.New("unknown")}), false},
		"our certificate":         {fmt.Errorf("x: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(48)}), false},
		"no TLS":                  {errors.New("server refused TLS connection"), false},
		"anything else":           {errors.New("the schema has version 9"), false},
	} {
		if got := Away(c.err); got != c.away {
			t.Errorf("%s: away is %t", name, got)
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
