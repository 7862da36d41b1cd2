package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/sqlite"
)

const (
	// pagesTime is how long the pages of an SQLite file are looked through.
	pagesTime = 3 * time.Second
	// nodesUsual is how many nodes a database should have connections for.
	nodesUsual = 3
)

// Store returns the checks of the store that a URL names. They change nothing in it.
func Store(url string) ([]Check, error) {
	scheme, place, _ := strings.Cut(url, "://")
	switch {
	case scheme == "sqlite" && place != "":
		return File(place), nil
	case (scheme == "postgres" || scheme == "postgresql") && place != "":
		return []Check{{Part: "store", Look: func(ctx context.Context) []Finding {
			return judgeDatabase(postgres.Check(ctx, url))
		}}}, nil
	}
	return nil, &UnknownURLError{Kind: "store", Allowed: "sqlite://FILE and postgres://…"}
}

// databaseFixes is what helps against an error, by its SQLSTATE.
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
		return []Finding{Fault(fix, "%s", err)}
	}
	over := "in plain text"
	if r.Encrypted {
		over = "over TLS"
	}
	release := Good("PostgreSQL %d answers, %s", r.Release, over)
	if r.Release < postgres.Oldest {
		release = Fault("upgrade it: a node refuses it", "PostgreSQL %d answers, and at least %d is needed", r.Release, postgres.Oldest)
	}
	return []Finding{
		release, judgeSchema(r.Version, r.Accepts, r.Known), judgeClock("store clock", r.Ahead), judgeRights(r), judgeSafety(r), judgeRoom(r),
	}
}

// judgeSchema compares a schema with what this program knows; accepts is 0 where a later release is
// never worked with.
func judgeSchema(version, accepts, known int) Finding {
	var f Finding
	switch {
	case version == 0:
		f = Good("there is no schema yet: the first node makes it")
	case version < known:
		f = Doubt("make a backup before: the next node of this version changes it", "it has version %d, and this program brings it to %d", version, known)
	case version > known && (accepts == 0 || accepts > known):
		f = Fault("use the release that has made it, or a later one", "it has version %d, and this program knows %d", version, known)
	case version > known:
		f = Doubt("upgrade this node too", "it has version %d of a later release; this program knows %d and still works with it", version, known)
	default:
		f = Good("it has version %d, as this program", version)
	}
	return f.Of("store schema")
}

func judgeClock(part string, ahead time.Duration) Finding {
	if ahead.Abs() > clockTolerance {
		return Doubt("let both machines follow the same time server", "its clock and this machine's are %s apart", ahead.Abs().Round(time.Second)).Of(part)
	}
	return Good("its clock and this machine's agree").Of(part)
}

func judgeRights(r postgres.Report) Finding {
	if len(r.Lacks) > 0 {
		return Fault("make the role the owner of the schema and what is in it: ALTER SCHEMA …, ALTER TABLE … OWNER TO; or GRANT it",
			"the role lacks %s", strings.Join(r.Lacks, "; ")).Of("store rights")
	}
	return Good("the role may do in the schema %s what a node does", r.Schema).Of("store rights")
}

func judgeSafety(r postgres.Report) Finding {
	if len(r.Unsafe) > 0 {
		return Doubt("turn it on: what was answered queued may be lost when the server or its machine dies",
			"%s", strings.Join(r.Unsafe, ", ")).Of("store safety")
	}
	return Good("it syncs what it commits").Of("store safety")
}

func judgeRoom(r postgres.Report) Finding {
	if r.Pooled {
		return Good("a pooler such as PgBouncer is in between; a node opens up to %d connections to it (max_client_conn)", r.PerNode).Of("store room")
	}
	more := r.Free / r.PerNode
	saw := fmt.Sprintf("a node opens up to %d connections; of %d that are allowed %d are free: room for %d more", r.PerNode, r.Limit, r.Free, more)
	if more == 0 || r.Limit/r.PerNode < nodesUsual {
		return Doubt(fmt.Sprintf("raise max_connections (or the role's or the database's limit) to %d for each node, and some", r.PerNode), "%s", saw).Of("store room")
	}
	return Good("%s", saw).Of("store room")
}

// File returns the checks of a store in a file, and of the directory that it is in.
func File(path string) []Check {
	return []Check{
		Directory("store", filepath.Dir(path)),
		{Part: "store file", Look: func(ctx context.Context) []Finding {
			ctx, cancel := context.WithTimeout(ctx, pagesTime)
			defer cancel()
			r, err := sqlite.Check(ctx, path)
			if errors.Is(err, os.ErrNotExist) {
				return append([]Finding{Good("it is not there yet: it is made at the first start")}, judgePlace(path)...)
			}
			if err != nil {
				return []Finding{Fault("give it to the user that runs posta; if it is no database of posta's, name another", "it cannot be read: %s", err)}
			}
			held := "nobody has it open"
			if r.HeldBy != "" {
				held = "process " + r.HeldBy + " has it open, or has died with it"
			}
			size := Good("%d KiB; %s", r.Bytes>>10, held)
			if r.Mode&0o007 != 0 {
				size = Doubt("chmod o-rwx "+path, "everybody may read or change it (mode %#o)", r.Mode)
			}
			return append([]Finding{
				size, judgeSchema(r.Version, 0, r.Known), judgePages(r.Found, r.CheckedAll), judgeSync(r.Sync, r.Journal),
			}, judgePlace(path)...)
		}},
	}
}

func judgePages(found error, all bool) Finding {
	switch {
	case found != nil:
		return Fault("stop the process, keep the file, restore the last backup", "it is damaged: %s", found).Of("store pages")
	case !all:
		return Good("no damage was found in %s; it is too large for more", pagesTime).Of("store pages")
	}
	return Good("no damage was found").Of("store pages")
}

// syncFull is SQLite's number for it.
const syncFull = 2

func judgeSync(level int, journal string) Finding {
	if level < syncFull || journal != "wal" {
		return Fault("this is not as posta makes it: is the file posta's?", "commits are not synced as they should be: synchronous=%d, journal_mode=%s", level, journal).Of("store safety")
	}
	return Good("each commit is synced (synchronous=FULL, WAL)").Of("store safety")
}

// judgePlace speaks of a file system of which locks and syncs cannot be trusted.
func judgePlace(path string) []Finding {
	if remote := Remote(filepath.Dir(path)); remote != "" {
		return []Finding{Doubt("put it on a local disk; nodes on several machines share --store postgres://…",
			"it is on %s, where locks and syncs are not what they are on a disk", remote).Of("store place")}
	}
	return nil
}
