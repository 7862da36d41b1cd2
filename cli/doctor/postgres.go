package doctor

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/store/postgres"
)

// nodesUsual is how many nodes a database should have connections for.
const nodesUsual = 3

// database checks a PostgreSQL database. It changes nothing in it.
func (s Subject) database(ctx context.Context, _ string) []Finding {
	return judgeDatabase(postgres.Check(ctx, s.Store))
}

// databaseFixes returns how to fix an error, by its SQLSTATE.
func databaseFixes() map[string]string {
	return map[string]string{
		"28P01": "the password is wrong: correct it in the URL, or ALTER ROLE … PASSWORD",
		"28000": "pg_hba.conf lets this role in from here, and the role may LOGIN?",
		"3D000": "CREATE DATABASE, or name another one in the URL",
		"42501": "GRANT what is missing, or make the role the owner of the database",
		"53300": "raise max_connections, or have fewer nodes; pool_max_conns in the URL says how many each may have",
		"57P03": "it starts, or recovers: a node waits for it for a minute",
	}
}

// judgeDatabase judges what postgres.Check reports.
func judgeDatabase(r postgres.Report, err error) []Finding {
	if err != nil {
		_, explained := postgres.Explain(err)
		fix := cmp.Or(databaseFixes()[postgres.Code(err)], explained)
		switch {
		case fix != "":
		case postgres.Away(err):
			fix = "is it up, and does the URL name its host and port? a node waits for it for a minute"
		default:
			fix = "does the URL name its host, user, password and database? sslrootcert=FILE names the authority of its certificate"
		}
		return []Finding{fault(fix, "%s", err)}
	}
	over := "in plain text"
	if r.Encrypted {
		over = "over TLS"
	}
	release := good("PostgreSQL %d answers, %s", r.Release, over)
	if r.Release < postgres.Oldest {
		release = fault("upgrade it: a node refuses it", "PostgreSQL %d answers, and at least %d is needed", r.Release, postgres.Oldest)
	}
	return []Finding{
		release, judgeSchema(r.Version, r.Accepts, r.Known), judgeClock("store clock", r.Ahead), judgeRights(r), judgeSafety(r), judgeRoom(r),
	}
}

// judgeSchema compares the version of a schema with the one that this program knows. accepts is the oldest version
// that a program must know to work with the schema; 0 means that no older program works with it.
func judgeSchema(version, accepts, known int) Finding {
	var f Finding
	switch {
	case version == 0:
		f = good("there is no schema yet: the first node makes it")
	case version < known:
		f = doubt("make a backup before: the next node of this version changes it", "it has version %d, and this program brings it to %d", version, known)
	case version > known && (accepts == 0 || accepts > known):
		f = fault("use the release that has made it, or a later one", "it has version %d, and this program knows %d", version, known)
	case version > known:
		f = doubt("upgrade this node too", "it has version %d of a later release; this program knows %d and still works with it", version, known)
	default:
		f = good("it has version %d, as this program", version)
	}
	return f.of("store schema")
}

// judgeClock compares the clock of a server with that of this machine.
func judgeClock(part string, ahead time.Duration) Finding {
	if ahead.Abs() > clockTolerance {
		return doubt("let both machines follow the same time server", "its clock and this machine's are %s apart", ahead.Abs().Round(time.Second)).of(part)
	}
	return good("its clock and this machine's agree").of(part)
}

// judgeRights judges what the role may do in the schema.
func judgeRights(r postgres.Report) Finding {
	if len(r.Lacks) > 0 {
		return fault("make the role the owner of the schema and what is in it: ALTER SCHEMA …, ALTER TABLE … OWNER TO; or GRANT it",
			"the role lacks %s", strings.Join(r.Lacks, "; ")).of("store rights")
	}
	return good("the role may do in the schema %s what a node does", r.Schema).of("store rights")
}

// judgeSafety judges the settings that make a commit survive a crash of the server.
func judgeSafety(r postgres.Report) Finding {
	if len(r.Unsafe) > 0 {
		return doubt("turn it on: what was answered queued may be lost when the server or its machine dies",
			"%s", strings.Join(r.Unsafe, ", ")).of("store safety")
	}
	return good("it syncs what it commits").of("store safety")
}

// judgeRoom judges how many more nodes can connect.
func judgeRoom(r postgres.Report) Finding {
	if r.Pooled {
		return good("a pooler such as PgBouncer is in between; a node opens up to %d connections to it (max_client_conn)", r.PerNode).of("store room")
	}
	more := r.Free / r.PerNode
	saw := fmt.Sprintf("a node opens up to %d connections; of %d that are allowed %d are free: room for %d more", r.PerNode, r.Limit, r.Free, more)
	if more == 0 || r.Limit/r.PerNode < nodesUsual {
		return doubt(fmt.Sprintf("raise max_connections (or the role's or the database's limit) to %d for each node, and some", r.PerNode), "%s", saw).of("store room")
	}
	return good("%s", saw).of("store room")
}
