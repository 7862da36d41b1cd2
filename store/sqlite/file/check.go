package file

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// check checks the file after an unclean stop. It takes seconds with a million tasks, so it runs while calls
// are served. That is safe: SQLite's own recovery has repaired the file before the first call, so the check
// only finds faults of the disk. If it finds damage, the file is not written any more, but reads continue. A check
// that Close interrupts runs again after the next Open.
func (f *File) check(ctx context.Context) {
	defer close(f.checked)
	if f.lock.wasClean {
		return
	}
	begin := time.Now()
	err := quickCheck(ctx, f.cfg.Path)
	switch {
	case ctx.Err() != nil:
		f.cfg.Logger.Warn("check of the store was interrupted")
	case err != nil:
		f.damage.Store(&err)
		f.cfg.Logger.Error("store is damaged", "error", err)
	default:
		f.lock.wasClean = true
		f.cfg.Logger.Info("store checked after an unclean stop", "ms", time.Since(begin).Milliseconds())
	}
}

func quickCheck(ctx context.Context, path string) error {
	c, err := connect(path, false)
	if err != nil {
		return err
	}
	err = c.QueryFor(ctx, "PRAGMA quick_check(1)", func(row []driver.Value) error {
		if found, _ := row[0].(string); found != "ok" {
			return fmt.Errorf("quick_check: %s", found)
		}
		return nil
	})
	return errors.Join(err, c.close())
}

// Report is the result of Inspect.
type Report struct {
	Version    int         // of the schema
	Known      int         // the newest version that this program knows
	Mode       os.FileMode // of the file
	Bytes      int64       // of the file
	Journal    string      // the journal mode; normally wal
	Sync       int         // synchronous, as our connections set it; 2 is full
	HeldBy     string      // id of the process that has the file open, or had it open when it died; "" after a clean stop
	Found      error       // the damage; nil if there is none
	CheckedAll bool        // whether the whole file was checked before ctx ended
}

// Inspect reports on a file that this process has not opened, and changes nothing in it. Another process may
// have it open. The pages are checked for as long as ctx allows.
func Inspect(ctx context.Context, path string, migrations fs.FS) (r Report, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return r, err
	}
	known, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return r, err
	}
	r.Mode, r.Bytes, r.Known = info.Mode().Perm(), info.Size(), len(known)
	if holder, err := os.ReadFile(path + ".lock"); err == nil {
		r.HeldBy = strings.TrimSpace(string(holder))
	}
	c, err := connect(path, false)
	if err != nil {
		return r, err
	}
	for text, to := range map[string]func(driver.Value){
		"PRAGMA user_version": func(v driver.Value) { r.Version = number(v) },
		"PRAGMA synchronous":  func(v driver.Value) { r.Sync = number(v) },
		"PRAGMA journal_mode": func(v driver.Value) { r.Journal, _ = v.(string) },
	} {
		err = errors.Join(err, c.QueryFor(ctx, text, func(row []driver.Value) error { to(row[0]); return nil }))
	}
	if err = errors.Join(err, c.close()); err != nil {
		return r, err
	}
	found := quickCheck(ctx, path)
	if r.CheckedAll = ctx.Err() == nil; r.CheckedAll {
		r.Found = found
	}
	return r, nil
}

func number(v driver.Value) int {
	n, _ := v.(int64)
	return int(n)
}
