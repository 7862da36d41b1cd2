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

// MigrationsIn returns the migrations in a folder. If there is no such folder, it returns files, which contains
// no migration, so that no store opens.
func MigrationsIn(files fs.FS, folder string) fs.FS {
	sub, err := fs.Sub(files, folder)
	if err != nil {
		return files
	}
	return sub
}

// migrate applies the migrations that the file does not have yet. Each one runs in a transaction that also
// stores its number in SQLite's user_version.
func migrate(file string, migrations fs.FS) error {
	names, err := fs.Glob(migrations, "*.sql")
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
		err = fmt.Errorf("it has schema version %d, and this release knows only %d: use the release that wrote it, or a later one",
			version, len(names))
	}
	for i := version; err == nil && i < len(names); i++ {
		err = c.apply(migrations, names[i], i+1)
	}
	return errors.Join(err, c.close())
}

// apply applies one migration.
func (c *Conn) apply(migrations fs.FS, name string, number int) error {
	if !strings.HasPrefix(path.Base(name), fmt.Sprintf("%04d_", number)) {
		return fmt.Errorf("%s is not migration %d", name, number)
	}
	text, err := fs.ReadFile(migrations, name)
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
