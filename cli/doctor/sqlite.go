package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/store/sqlite/file"
)

// pagesTime is how long the pages of an SQLite file are read.
const pagesTime = 3 * time.Second

// sqliteFile checks a store in an SQLite file. It changes nothing in it.
func sqliteFile(ctx context.Context, path string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, pagesTime)
	defer cancel()
	r, err := sqlite.Check(ctx, path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return append([]Finding{good("it is not there yet: it is made at the first start")}, judgePlace(path)...)
	case err != nil:
		return []Finding{fault("give it to the user that runs posta; if it is no database of posta's, name another", "it cannot be read: %s", err)}
	}
	return append([]Finding{
		judgeFile(path, r), judgeSchema(r.Version, 0, r.Known), judgePages(r.Found, r.CheckedAll), judgeSync(r.Sync, r.Journal),
	}, judgePlace(path)...)
}

// judgeFile judges who may read the file, and says which process has it open.
func judgeFile(path string, r file.Report) Finding {
	if r.Mode&0o007 != 0 {
		return doubt("chmod o-rwx "+path, "everybody may read or change it (mode %#o)", r.Mode)
	}
	held := "nobody has it open"
	if r.HeldBy != "" {
		held = "process " + r.HeldBy + " has it open, or has died with it"
	}
	return good("%d KiB; %s", r.Bytes>>10, held)
}

// judgePages judges the damage that was found. all reports whether there was time to read every page.
func judgePages(found error, all bool) Finding {
	switch {
	case found != nil:
		return fault("stop the process, keep the file, restore the last backup", "it is damaged: %s", found).of("store pages")
	case !all:
		return good("no damage was found in %s; it is too large for more", pagesTime).of("store pages")
	}
	return good("no damage was found").of("store pages")
}

// syncFull is the number of synchronous=FULL in SQLite.
const syncFull = 2

// judgeSync judges the settings that make a commit survive a loss of power.
func judgeSync(level int, journal string) Finding {
	if level < syncFull || journal != "wal" {
		return fault("this is not as posta makes it: is the file posta's?", "commits are not synced as they should be: synchronous=%d, journal_mode=%s", level, journal).of("store safety")
	}
	return good("each commit is synced (synchronous=FULL, WAL)").of("store safety")
}

// judgePlace warns of a file system whose locks and syncs cannot be trusted.
func judgePlace(path string) []Finding {
	if name := remote(filepath.Dir(path)); name != "" {
		return []Finding{doubt("put it on a local disk; nodes on several machines share --store postgres://…",
			"it is on %s, where locks and syncs are not what they are on a disk", name).of("store place")}
	}
	return nil
}
