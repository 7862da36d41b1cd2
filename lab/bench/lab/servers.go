package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// Server is a server that the nodes of a cluster share, with its own data directory.
type Server struct {
	URL string
	PID int // includes its children
	// Control runs the command-line tool of the server; nil: it has none here.
	Control func(args ...string) (string, error)
}

// Postgres starts a PostgreSQL server that syncs each commit, with additional settings. It returns when the server
// accepts connections.
func (l *Lab) Postgres(settings ...string) (s Server, err error) {
	err = l.stage(func(t testing.TB) {
		p := testenv.StartPostgres(t, settings...)
		s = Server{URL: p.URL(), PID: p.Pid()}
	})
	return s, err
}

// RabbitMQ starts a RabbitMQ server. It returns when the server accepts connections.
func (l *Lab) RabbitMQ() (s Server, err error) {
	err = l.stage(func(t testing.TB) {
		r := testenv.RabbitMQ(t)
		s = Server{URL: r.URL, PID: r.Pid()}
		s.Control = func(args ...string) (out string, err error) {
			err = l.stage(func(t testing.TB) { out = r.Control(t, args...) })
			return out, err
		}
	})
	return s, err
}

// Member starts one node of a cluster. It returns before the node serves.
func (l *Lab) Member(ctx context.Context, name, store, broker string, flags ...string) (*Process, error) {
	return l.serve(ctx, name, l.posta, func(addr string) []string {
		return append([]string{
			"node", "--listen", addr, "--name", name, "--store", store, "--broker", broker,
			"--drain-delay", "0s", "--log-level", "warn",
		}, flags...)
	})
}

// stage lets functions for tests start servers for the lab. A failure of the test becomes an error, and its
// cleanups run when the lab is closed.
func (l *Lab) stage(do func(testing.TB)) (err error) {
	if err := os.Setenv(testenv.Check, "1"); err != nil { // a missing program is a failure
		return err
	}
	defer func() {
		switch why := recover().(type) {
		case nil:
		case stageError:
			err = why
		default:
			panic(why)
		}
	}()
	do(&stage{lab: l})
	return nil
}

// stageError is why a stage ended early.
type stageError string

func (e stageError) Error() string { return string(e) }

// stage has the methods of testing.TB that servers need.
type stage struct {
	testing.TB // nil: other methods are not available
	lab        *Lab
}

func (s *stage) Helper()                           {}
func (s *stage) Failed() bool                      { return false }
func (s *stage) Cleanup(do func())                 { s.lab.cleanups = append(s.lab.cleanups, do) }
func (s *stage) Logf(format string, args ...any)   { s.lab.Say(format, args...) }
func (s *stage) Errorf(format string, args ...any) { s.lab.Say(format, args...) }
func (s *stage) Fatal(args ...any)                 { panic(stageError(fmt.Sprint(args...))) }
func (s *stage) Fatalf(format string, args ...any) { panic(stageError(fmt.Sprintf(format, args...))) }

func (s *stage) TempDir() string {
	s.lab.stages++
	dir, err := s.lab.Dir(filepath.Join("servers", fmt.Sprint(s.lab.stages)))
	if err != nil {
		s.Fatal(err)
	}
	return dir
}
