package postgres

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/store/postgres/server"
)

// Check connects to the database that a URL names, changes nothing there, and tells the schema's
// version (0: there is none yet) and how far the database's clock is ahead of ours.
func Check(ctx context.Context, url string) (version int, ahead time.Duration, err error) {
	return server.Check(ctx, url)
}
