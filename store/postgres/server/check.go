package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Check connects, changes nothing, and tells the schema's version (0: there is none yet) and how
// far the database's clock is ahead of ours.
func Check(ctx context.Context, url string) (version int, ahead time.Duration, err error) {
	cfg, err := parse(url)
	if err != nil {
		return 0, 0, err
	}
	c, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return 0, 0, fmt.Errorf("the database cannot be reached: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	began, now, there := time.Now(), time.Time{}, false
	err = c.QueryRow(ctx, "SELECT clock_timestamp(), to_regclass('schema_version') IS NOT NULL").Scan(&now, &there)
	if err != nil {
		return 0, 0, fmt.Errorf("the database does not answer: %w", err)
	}
	ahead = now.Sub(began.Add(time.Since(began) / 2))
	if !there {
		return 0, ahead, nil
	}
	err = c.QueryRow(ctx, "SELECT version FROM schema_version").Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return version, ahead, err
}
