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

// check looks through the file after a stop that was not clean. It runs beside the calls,
// since it takes seconds with a million tasks: SQLite's own recovery has made the file
// whole before the first of them, so what it could find is a disk that lies. When it
// finds something, nothing is written any more, and reads go on. A check that is cut short
// is made again at the next start.
func (f *File) check(ctx context.Context) {
	defer close(f.checked)
	if f.lock.wasClean {
		return
	}
	begin := time.Now()
	err := quickCheck(ctx, f.cfg.Path)
	switch {
	case ctx.Err() != nil:
		f.cfg.Logger.Warn("check of the store was cut short")
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

// Report is what Look has seen of a file.
type Report struct {
	Version    int         // the schema's
	Known      int         // what this program knows
	Mode       os.FileMode // of the file
	Bytes      int64       // of the file
	Journal    string      // wal
	Sync       int         // 2 is full, and what a connection of ours has
	HeldBy     string      // the process that has it open, or had when it died; "" after a clean stop
	Found      error       // what is damaged
	CheckedAll bool        // the whole file was looked through; false: there was no time
}

// Look looks at a file that this process has not opened, whoever else has, and changes nothing in
// it. Its pages are looked through for as long as ctx allows.
func Look(ctx context.Context, path string, steps fs.FS) (r Report, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return r, err
	}
	known, err := fs.Glob(steps, "*.sql")
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
