package postgres

import (
	"context"
	"io/fs"

	"github.com/posta-tasks/posta/store/postgres/server"
)

// Report is the result of Check.
type Report = server.Report

// Check connects to the database that url names and reports on it. It changes nothing there.
func Check(ctx context.Context, url string) (Report, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return Report{}, err
	}
	return server.Check(ctx, url, steps)
}

// Oldest is the oldest supported release of PostgreSQL.
const Oldest = server.Oldest

// Away reports whether an error of Open or Check is temporary, so that it makes sense to try again.
func Away(err error) bool { return server.Away(err) }

// Explain returns what is wrong and how to fix it, if an error of Open or Check is permanent and an operator
// can fix it. It returns "" for other errors.
func Explain(err error) (says, fix string) { return server.Explain(err) }

// Code returns the SQLSTATE of an error, or "" if the error does not come from the server.
func Code(err error) string { return server.Code(err) }
