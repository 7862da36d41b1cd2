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

// Report is what Check has seen of a database.
type Report struct {
	Release int    // of PostgreSQL, such as 15
	Schema  string // where the tables are
	// Version is the schema's, 0: there is none yet; Accepts is the lowest that a program must
	// know to work with it, and Known is what this program knows.
	Version, Accepts, Known int
	Ahead                   time.Duration // the database's clock before ours
	Lacks                   []string      // what the role may not do and must
	Unsafe                  []string      // settings with which a crash may lose what was acknowledged
	Limit, Free             int           // connections that the role may have, and that are left of them
	PerNode                 int           // what a node opens
	Encrypted               bool          // the connection
	Pooled                  bool          // PgBouncer, or the like, is in between
}

// Check connects, changes nothing, and tells what it sees. steps are the program's migrations.
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

// firstOf gives the schema that a search_path names first.
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

// errNoSchema ends the look at a schema that is not there, or that rights tells of.
var errNoSchema = errors.New("there is no schema")

// rights asks for what a node does: rows of all tables, and partitions made and dropped, which
// the owner of a table may alone.
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

// connections takes the least of what the server, the database and the role allow. This connection
// is counted as free.
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

// SQLSTATEs that mean something to us.
const (
	undefinedTable = "42P01"
	noRight        = "42501"
)

// Code gives the SQLSTATE of an error; "" of one that is not the server's.
func Code(err error) string {
	var reply *pgconn.PgError
	if errors.As(err, &reply) {
		return reply.Code
	}
	return ""
}
