package file

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
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
