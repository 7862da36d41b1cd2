package file

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// owner is the owner of a test's file. It counts the calls of its functions.
type owner struct {
	reloaded, committed int
}

func (o *owner) config(path string) Config {
	return Config{
		Path:         path,
		Migrations:   fstest.MapFS{"0001_words.sql": {Data: []byte("CREATE TABLE words (word TEXT) STRICT")}},
		Logger:       slog.New(slog.DiscardHandler),
		Reload:       func(*Conn) error { o.reloaded++; return nil },
		BeforeCommit: func(*Conn) error { return nil },
		AfterCommit:  func() { o.committed++ },
	}
}

func openAt(t *testing.T, path string) (*File, *owner) {
	t.Helper()
	o := &owner{}
	f, err := Open(o.config(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, o
}

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "words.db") }

// add returns a call that adds a word.
func add(word string) func(c *Conn) error {
	return func(c *Conn) error {
		_, err := c.Exec("INSERT INTO words VALUES (?)", word)
		return err
	}
}

// words lists the committed words.
func words(t *testing.T, f *File) (list []string) {
	t.Helper()
	err := f.Read(t.Context(), func(c *Conn) error {
		return c.Query("SELECT word FROM words ORDER BY word", func(row []driver.Value) error {
			list = append(list, row[0].(string))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// together runs calls in one transaction: it holds up the writer until all of them wait.
func together(t *testing.T, f *File, calls ...func(c *Conn) error) []error {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		_ = f.Write(t.Context(), func(*Conn) error { close(held); <-release; return nil })
	})
	<-held
	errs := make([]error, len(calls))
	for i, do := range calls {
		wait.Go(func() { errs[i] = f.Write(t.Context(), do) })
	}
	for len(f.calls) < len(calls) {
		runtime.Gosched()
	}
	close(release)
	wait.Wait()
	return errs
}

func TestWaitingCallsShareACommit(t *testing.T) {
	t.Parallel()
	f, o := openAt(t, newPath(t))
	for _, err := range together(t, f, add("a"), add("b"), add("c")) {
		if err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(words(t, f), ""); got != "abc" || o.committed != 2 {
		t.Errorf("words %q in %d commits", got, o.committed)
	}
}

func TestACallThatFailsDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	f, o := openAt(t, newPath(t))
	broken := func(c *Conn) error {
		return errors.Join(add("broken")(c), c.Run("INSERT INTO nothing VALUES (1)"))
	}
	refused := func(*Conn) error { return task.Refuse(task.Overloaded, "full") }
	errs := together(t, f, add("a"), broken, refused, add("b"))
	for i, want := range []task.Code{"", task.Unavailable, task.Overloaded, ""} {
		if got := codeOf(errs[i]); got != want {
			t.Errorf("call %d: %v, want %q", i, errs[i], want)
		}
	}
	if got := strings.Join(words(t, f), " "); got != "a b" {
		t.Errorf("words %q", got)
	}
	if o.reloaded != 3 { // by Open, after the batch, and after the call in its own transaction
		t.Errorf("the owner was reloaded %d times", o.reloaded)
	}
}

// TestAnErrorOfARowIsInternalAndHidesTheDriversMessage runs calls with faulty rows beside a sound call.
func TestAnErrorOfARowIsInternalAndHidesTheDriversMessage(t *testing.T) {
	t.Parallel()
	f, _ := openAt(t, newPath(t))
	mismatch := func(c *Conn) error {
		_, err := c.Exec("INSERT INTO words VALUES (?)", []byte("no text"))
		return err
	}
	rule := func(c *Conn) error {
		return c.Run("CREATE TEMP TABLE IF NOT EXISTS one (n INTEGER UNIQUE); INSERT INTO one VALUES (1), (1)")
	}
	damaged := func(*Conn) error { return fmt.Errorf("task 1: %w", pack.ErrDamaged) }
	missing := func(c *Conn) error { return c.Run("INSERT INTO nothing VALUES (1)") }
	errs := together(t, f, mismatch, rule, damaged, missing, add("a"))
	errs = append(errs, f.Read(t.Context(), damaged))
	for i, want := range []task.Code{task.Internal, task.Internal, task.Internal, task.Unavailable, "", task.Internal} {
		if got := codeOf(errs[i]); got != want {
			t.Errorf("call %d: %v, want %q", i, errs[i], want)
		}
		var refusal *task.Error
		if errors.As(errs[i], &refusal) && (strings.Contains(refusal.Message, "SQL") || strings.Contains(refusal.Message, "nothing") ||
			strings.Contains(refusal.Message, "packed") || errs[i].Error() == refusal.Error()) {
			t.Errorf("call %d: the client gets %q, the log %q", i, refusal.Message, errs[i])
		}
	}
	if got := strings.Join(words(t, f), " "); got != "a" {
		t.Errorf("words %q", got)
	}
}

func codeOf(err error) task.Code {
	if err == nil {
		return ""
	}
	return task.CodeOf(err)
}

// failing is a statement that fails.
type failing struct{ driver.Stmt }

func (failing) Close() error { return nil }

func (failing) ExecContext(context.Context, []driver.NamedValue) (driver.Result, error) {
	return nil, errors.New("the disk does not answer")
}

func TestACommitThatFailsLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	f, _ := openAt(t, newPath(t))
	var sound *statement
	breaks := func(c *Conn) error {
		sound = c.prepared["COMMIT"]
		c.prepared["COMMIT"] = &statement{Stmt: failing{}}
		return add("lost")(c)
	}
	for i, err := range together(t, f, add("a"), breaks) {
		if task.CodeOf(err) != task.UnknownOutcome {
			t.Errorf("call %d: %v", i, err)
		}
	}
	next := f.Write(t.Context(), func(c *Conn) error {
		c.prepared["COMMIT"] = sound
		return add("b")(c)
	})
	if got := strings.Join(words(t, f), " "); got != "b" || next != nil {
		t.Errorf("words %q, %v", got, next)
	}
}

func TestALostConnectionIsOpenedAgain(t *testing.T) {
	t.Parallel()
	o := &owner{}
	cfg := o.config(newPath(t))
	unreadable := false
	cfg.Reload = func(*Conn) error {
		if unreadable {
			unreadable = false
			return errors.New("nothing can be read")
		}
		return nil
	}
	f, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = f.Write(t.Context(), func(c *Conn) error { unreadable = true; return errors.New("and now") })
	if task.CodeOf(err) != task.Unavailable {
		t.Errorf("the call that loses the connection: %v", err)
	}
	if err := f.Write(t.Context(), add("a")); err != nil || len(words(t, f)) != 1 {
		t.Errorf("the next call: %v", err)
	}
}

func TestASecondOpenIsRefusedAndNamesTheProcess(t *testing.T) {
	t.Parallel()
	at := newPath(t)
	f, o := openAt(t, at)
	second, err := Open(o.config(at))
	if err == nil {
		second.Close()
		t.Fatal("both are open")
	}
	if want := fmt.Sprintf("is held by process %d:", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not contain %q", err, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, at)
}

func TestAFileOfALaterReleaseIsRefused(t *testing.T) {
	t.Parallel()
	at := newPath(t)
	f, o := openAt(t, at)
	if err := f.Write(t.Context(), func(c *Conn) error { return c.Run("PRAGMA user_version = 7") }); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := Open(o.config(at)); err == nil || !strings.Contains(err.Error(), "it has schema version 7, and this release knows only 1") {
		t.Errorf("%v", err)
	}
}

func TestAMigrationThatFailsIsRolledBackAndNamed(t *testing.T) {
	t.Parallel()
	at := newPath(t)
	f, o := openAt(t, at)
	f.Close()
	cfg := o.config(at)
	cfg.Migrations.(fstest.MapFS)["0002_more.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE more (n); CREATE TABLE words (n)")}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "0002_more.sql") {
		t.Fatalf("%v", err)
	}
	cfg.Migrations.(fstest.MapFS)["0002_more.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE more (n)")}
	f, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// spoil overwrites the leaves of the table, as a failing disk would, and the lock, as if the process had died.
func spoil(t *testing.T, at string) {
	t.Helper()
	f, _ := openAt(t, at)
	for range 3 {
		if err := f.Write(t.Context(), add(strings.Repeat("x", 3000))); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	text, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	copy(text[len(text)-4096:], strings.Repeat("nonsense", 512))
	if err := errors.Join(os.WriteFile(at, text, 0o600), os.WriteFile(at+".lock", []byte("1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedFileCanBeReadButNotWritten(t *testing.T) {
	t.Parallel()
	at := newPath(t)
	spoil(t, at)
	f, _ := openAt(t, at)
	<-f.checked
	err := f.Write(t.Context(), add("a"))
	if task.CodeOf(err) != task.Unavailable || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("write: %v", err)
	}
	err = f.Read(t.Context(), func(c *Conn) error {
		return c.Query("SELECT word FROM words LIMIT 1", func([]driver.Value) error { return nil })
	})
	if err != nil {
		t.Errorf("read: %v", err)
	}
	f.Close()
	if again, _ := openAt(t, at); again.lock.wasClean {
		t.Error("after Close the damaged file counts as sound")
	}
}

func TestAFileIsCheckedOnlyAfterAnUncleanStop(t *testing.T) {
	t.Parallel()
	at := newPath(t)
	for _, c := range []struct{ left, log string }{{"", ""}, {"1\n", "store checked"}, {"", ""}} {
		if c.left != "" {
			if err := os.WriteFile(at+".lock", []byte(c.left), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var logged strings.Builder
		cfg := new(owner).config(at)
		cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		f, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		<-f.checked
		f.Close()
		if !strings.Contains(logged.String(), c.log) || c.log == "" && logged.Len() > 0 {
			t.Errorf("with %q in the lock the log is %q", c.left, &logged)
		}
	}
}

func TestALockThatIsNotOursIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	const precious = "precious\n"
	for name, place := range map[string]func(lock, other string) error{
		"a symbolic link": func(lock, other string) error { return os.Symlink(other, lock) },
		"another name":    func(lock, other string) error { return os.Link(other, lock) },
		"another file":    func(lock, _ string) error { return os.WriteFile(lock, []byte(precious), 0o600) },
	} {
		at := newPath(t)
		other := at + ".other"
		if err := os.WriteFile(other, []byte(precious), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := place(at+".lock", other); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(new(owner).config(at)); err == nil {
			f.Close()
			t.Errorf("%s was accepted as the lock", name)
		} else if !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", name, err)
		}
		for _, file := range []string{other, at + ".lock"} {
			if text, err := os.ReadFile(file); err != nil || string(text) != precious {
				t.Errorf("%s: the file contains %q, %v", name, text, err)
			}
		}
	}
}

func TestABackupDoesNotChangeTheFilesBesideIt(t *testing.T) {
	t.Parallel()
	at := newPath(t)
	f, _ := openAt(t, at)
	to := at + ".copy"
	if err := os.WriteFile(to+".partial", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Backup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to + ".partial"); err != nil || string(text) != "mine" {
		t.Errorf("the file contains %q, %v", text, err)
	}
	if left, _ := filepath.Glob(to + ".partial-*"); len(left) > 0 {
		t.Errorf("it leaves %v behind", left)
	}
}

func TestACallAfterCloseOrAfterItsContextIsUnavailable(t *testing.T) {
	t.Parallel()
	f, _ := openAt(t, newPath(t))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, when := range []string{"after its context", "after Close"} {
		write := f.Write(gone, add("a"))
		read := f.Read(gone, func(*Conn) error { return nil })
		if task.CodeOf(write) != task.Unavailable || task.CodeOf(read) != task.Unavailable {
			t.Errorf("%s: %v, %v", when, write, read)
		}
		f.Close()
		gone = t.Context()
	}
}

func TestABackupIsCompleteAndNotOverwritten(t *testing.T) {
	t.Parallel()
	f, _ := openAt(t, newPath(t))
	if err := f.Write(t.Context(), add("a")); err != nil {
		t.Fatal(err)
	}
	copyAt := newPath(t)
	if err := f.Backup(t.Context(), copyAt); err != nil {
		t.Fatal(err)
	}
	if err := f.Backup(t.Context(), copyAt); err == nil {
		t.Error("the backup was overwritten")
	}
	if _, err := os.Lstat(copyAt + ".partial"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the partial file is left: %v", err)
	}
	restored, _ := openAt(t, copyAt)
	if got := words(t, restored); len(got) != 1 {
		t.Errorf("words %q", got)
	}
}

// TestLastCallsRunAfterTheOthers: WriteLast sees what the other calls of its transaction have changed.
// Otherwise calls keep their order.
func TestLastCallsRunAfterTheOthers(t *testing.T) {
	t.Parallel()
	batch := []*call{{last: true}, {}, {last: true}, {}}
	want := []*call{batch[1], batch[3], batch[0], batch[2]}
	if got := lastBehind(slices.Clone(batch)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	f, _ := openAt(t, newPath(t))
	if err := f.WriteLast(t.Context(), add("last")); err != nil {
		t.Fatal(err)
	}
	if got := words(t, f); !slices.Equal(got, []string{"last"}) {
		t.Errorf("got %v", got)
	}
}
