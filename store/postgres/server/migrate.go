package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// lockClass separates our advisory locks from those of other programs in the same database.
const lockClass = 0x706f7374 // "post"

// step is one numbered migration. Its first line has the lowest version of a program that can still work with
// the schema after this step. So a release only adds what the previous release can work with, and removes what
// is not needed any more one release later.
type step struct {
	name    string
	accepts int
	text    string
}

func readSteps(files fs.FS) ([]step, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var steps []step
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		s := step{name: name, text: string(text)}
		number := 0
		_, err = fmt.Sscanf(name, "%04d_", &number)
		if _, second := fmt.Sscanf(s.text, "-- accepts %d\n", &s.accepts); err != nil || second != nil || number != i+1 {
			return nil, fmt.Errorf("migration %s must have the number %d, and its first line must be: -- accepts VERSION", name, i+1)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// migrate brings the schema up to date. If several processes start at once, one does it and the others wait. A
// schema that a later release has changed is used as long as it accepts this release.
func migrate(ctx context.Context, t *target, files fs.FS) error {
	steps, err := readSteps(files)
	if err != nil {
		return err
	}
	start, cancelStart := context.WithTimeout(ctx, startTime)
	defer cancelStart()
	c, begin, err := t.connect(start)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if version := versionOf(c); version < Oldest {
		return fmt.Errorf("the server has version %d, but at least %d is needed", version, Oldest)
	}
	path := t.ConnConfig.RuntimeParams["search_path"]
	tx, err := c.BeginTx(start, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := prepare(start, tx, path); err != nil {
		return err
	}
	var version, accepts int
	err = tx.QueryRow(start, "SELECT version, accepts FROM schema_version").Scan(&version, &accepts)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if accepts > len(steps) {
		return fmt.Errorf("the schema has version %d and needs a release that knows version %d; this one knows %d",
			version, accepts, len(steps))
	}
	missing := steps[min(version, len(steps)):]
	if len(missing) == 0 {
		return tx.Commit(start)
	}
	ctx, cancel := context.WithTimeout(ctx, migrationTime)
	defer cancel()
	if err := apply(ctx, tx, missing, version); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// Oldest is the oldest supported release of PostgreSQL. Older ones lack something that the schema and its
// settings need.
const Oldest = 13

// connectTime bounds one attempt to connect. A machine that does not answer in this time counts as temporarily
// unreachable.
const connectTime = 5 * time.Second

// connect opens a connection outside of the pools.
func connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	if cfg.ConnectTimeout == 0 {
		cfg = cfg.Copy()
		cfg.ConnectTimeout = connectTime
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the database cannot be reached: %w", oneLine{err})
	}
	return c, nil
}

// versionOf returns the major version of the server, such as 15, or 0 if it is unknown.
func versionOf(c *pgx.Conn) (version int) {
	_, _ = fmt.Sscanf(c.PgConn().ParameterStatus("server_version"), "%d", &version)
	return version
}

// prepare waits for other processes that migrate, and creates the schema and the table of its version.
func prepare(ctx context.Context, tx pgx.Tx, path string) error {
	first := strings.TrimSpace(strings.Split(path, ",")[0])
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", lockClass, first)
	if err != nil {
		return err
	}
	there := false
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", strings.Trim(first, `"`)).Scan(&there)
	if err != nil {
		return err
	}
	if !there {
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{strings.Trim(first, `"`)}.Sanitize()); err != nil {
			return fmt.Errorf("create the schema %s: %w", first, err)
		}
	}
	_, err = tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL, accepts integer NOT NULL)")
	return err
}

// apply applies the missing steps.
func apply(ctx context.Context, tx pgx.Tx, missing []step, version int) error {
	for _, s := range missing {
		if _, err := tx.Exec(ctx, s.text, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("migration %s: %w", s.name, err)
		}
		version++
		_, err := tx.Exec(ctx, "DELETE FROM schema_version")
		if err == nil {
			_, err = tx.Exec(ctx, "INSERT INTO schema_version VALUES ($1, $2)", version, s.accepts)
		}
		if err != nil {
			return fmt.Errorf("migration %s: %w", s.name, err)
		}
	}
	return nil
}
