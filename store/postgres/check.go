package postgres

import (
	"context"
	"io/fs"

	"github.com/posta-tasks/posta/store/postgres/server"
)

// Report is what Check has seen of a database.
type Report = server.Report

// Check connects to the database that a URL names, changes nothing there, and tells what it sees.
func Check(ctx context.Context, url string) (Report, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return Report{}, err
	}
	return server.Check(ctx, url, steps)
}

// Oldest is the first release of PostgreSQL that is worked with.
const Oldest = server.Oldest

// Away tells whether an error of Open or Check passes by itself, so that trying again may help.
func Away(err error) bool { return server.Away(err) }

// Explain returns, of an error of Open or Check that does not pass by itself and that somebody can do
// something about, what is wrong and what to change; "" of others.
func Explain(err error) (says, fix string) { return server.Explain(err) }

// Code gives the SQLSTATE of an error; "" of one that is not the server's.
func Code(err error) string { return server.Code(err) }
