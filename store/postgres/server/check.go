package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Report is the result of Check.
type Report struct {
	Release int    // major version of PostgreSQL, such as 15
	Schema  string // where the tables are
	// Version is that of the schema; 0 means that there is none yet. Accepts is the lowest version that a
	// program must know to work with the schema. Known is the version that this program knows.
	Version, Accepts, Known int
	Ahead                   time.Duration // how far the database's clock is ahead of ours
	Lacks                   []string      // rights that the role needs and does not have
	Unsafe                  []string      // settings with which a crash may lose acknowledged changes
	Limit, Free             int           // connections that the role may have, and how many of these are free
	PerNode                 int           // connections that a node opens
	Encrypted               bool          // whether the connection uses TLS
	Pooled                  bool          // whether a pooler such as PgBouncer is in between
}

// Check connects to the database and reports on it. It changes nothing. steps are the program's migrations.
func Check(ctx context.Context, url string, steps fs.FS) (r Report, err error) {
	cfg, err := parse(url)
	if err != nil {
		return r, err
	}
	known, err := readSteps(steps)
	if err != nil {
		return r, err
	}
	c, begin, err := cfg.connect(ctx)
	if err != nil {
		return r, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	r.Release, r.Known, r.Schema = versionOf(c), len(known), firstOf(cfg.ConnConfig.RuntimeParams["search_path"])
	r.Pooled = cfg.pooling == pooled
	r.PerNode = int(max(cfg.MaxConns, 1)) + beatConnections + listConnections
	for _, look := range []func(context.Context, *pgx.Conn) error{r.clock, r.version, r.rights, r.settings, r.connections} {
		if err := within(ctx, c, begin, look); err != nil && !errors.Is(err, errNoSchema) {
			return r, fmt.Errorf("the database does not answer: %w", err)
		}
	}
	return r, nil
}

// firstOf returns the first schema of a search_path.
func firstOf(path string) string {
	first, _, _ := strings.Cut(path, ",")
	return strings.Trim(strings.TrimSpace(first), `"`)
}

func (r *Report) clock(ctx context.Context, c *pgx.Conn) error {
	began, now := time.Now(), time.Time{}
	err := c.QueryRow(ctx, "SELECT clock_timestamp(), (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())").Scan(&now, &r.Encrypted)
	r.Ahead = now.Sub(began.Add(time.Since(began) / 2))
	return err
}

func (r *Report) version(ctx context.Context, c *pgx.Conn) error {
	err := c.QueryRow(ctx, "SELECT version, accepts FROM schema_version").Scan(&r.Version, &r.Accepts)
	switch code := Code(err); {
	case code == undefinedTable, code == noRight, errors.Is(err, pgx.ErrNoRows):
		return errNoSchema
	}
	return err
}

// errNoSchema means that there is no schema, or that the role may not read it, which rights reports.
var errNoSchema = errors.New("there is no schema")

// rights checks the rights that a node needs: on the rows of all tables, and to create and drop partitions,
// which only the owner of a table may do.
func (r *Report) rights(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, `
		SELECT 'CREATE on the database, to make the schema '||$1 WHERE NOT has_database_privilege(current_database(), 'CREATE')
			AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)
		UNION ALL SELECT right_||' on the schema '||$1 FROM pg_namespace n, unnest(ARRAY['USAGE','CREATE']) right_
			WHERE nspname = $1 AND NOT has_schema_privilege(n.oid, right_)
		UNION ALL SELECT right_||' on '||relname FROM pg_class t JOIN pg_namespace n ON n.oid = relnamespace AND nspname = $1,
				unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE']) right_
			WHERE relkind IN ('r', 'p') AND NOT relispartition AND NOT has_table_privilege(t.oid, right_)
		UNION ALL SELECT 'to be the owner of '||relname||', to make its partitions and to migrate' FROM pg_class t
				JOIN pg_namespace n ON n.oid = relnamespace AND nspname = $1
			WHERE relkind IN ('r', 'p') AND NOT relispartition AND NOT pg_has_role(relowner, 'USAGE')
		LIMIT 20`, r.Schema)
	if err != nil {
		return err
	}
	r.Lacks, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

func (r *Report) settings(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, `SELECT name||' is '||setting FROM pg_settings
		WHERE setting = 'off' AND name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name`)
	if err != nil {
		return err
	}
	r.Unsafe, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

// connections computes the smallest of the limits of the server, the database and the role. Our own connection
// counts as free.
func (r *Report) connections(ctx context.Context, c *pgx.Conn) error {
	return c.QueryRow(ctx, `
		WITH bounds (most, used) AS (
			SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
				(SELECT sum(numbackends) FROM pg_stat_database)
			UNION ALL SELECT datconnlimit, pg_stat_get_db_numbackends(oid)
				FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
			UNION ALL SELECT rolconnlimit, (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)
				FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0)
		SELECT min(most), greatest(min(most - used) + 1, 0)::int FROM bounds`).Scan(&r.Limit, &r.Free)
}

// SQLSTATEs that Check distinguishes.
const (
	undefinedTable = "42P01"
	noRight        = "42501"
)

// Code returns the SQLSTATE of an error, or "" if the error does not come from the server.
func Code(err error) string {
	var reply *pgconn.PgError
	if errors.As(err, &reply) {
		return reply.Code
	}
	return ""
}
