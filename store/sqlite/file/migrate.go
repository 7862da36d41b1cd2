package file

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/posta-tasks/posta/internal/fail"
)

// StepsIn gives the steps in a folder of files. One that is not there has none, and no store opens then.
func StepsIn(files fs.FS, folder string) fs.FS {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return files
	}
	return sub
}

// migrate makes the steps that the file has not seen yet, each in a transaction with its
// number, which is SQLite's user_version.
func migrate(file string, steps fs.FS) error {
	names, err := fs.Glob(steps, "*.sql")
	if err != nil {
		return err
	}
	c, err := connect(file, true)
	if err != nil {
		return err
	}
	version := 0
	err = c.Query("PRAGMA user_version", func(row []driver.Value) error {
		n, _ := row[0].(int64)
		version = int(n)
		return nil
	})
	if err == nil && version > len(names) {
		err = fmt.Errorf("it has version %d, and this release knows %d: use the release that has written it, or a later one",
			version, len(names))
	}
	for i := version; err == nil && i < len(names); i++ {
		err = c.step(steps, names[i], i+1)
	}
	return errors.Join(err, c.close())
}

// step makes one step.
func (c *Conn) step(steps fs.FS, name string, number int) error {
	if !strings.HasPrefix(path.Base(name), fmt.Sprintf("%04d_", number)) {
		return fmt.Errorf("%s is not number %d", name, number)
	}
	text, err := fs.ReadFile(steps, name)
	if err != nil {
		return err
	}
	if err := c.Run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err = c.Run(fmt.Sprintf("%s; PRAGMA user_version = %d", text, number))
	if err == nil {
		err = fail.Error("migrate.step")
	}
	if err == nil {
		err = c.Run("COMMIT")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), c.Run("ROLLBACK"))
	}
	return nil
}
