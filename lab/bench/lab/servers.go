package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// Server is one of the servers that the nodes of a cluster share, with a data directory of its own.
type Server struct {
	URL string
	PID int // its children belong to it
	// Control runs a command of the server's own tool; nil: it has none here.
	Control func(args ...string) (string, error)
}

// Postgres starts a PostgreSQL that syncs each commit, with more settings. It returns when it serves.
func (l *Lab) Postgres(settings ...string) (s Server, err error) {
	err = l.stage(func(t testing.TB) {
		p := testenv.StartPostgres(t, settings...)
		s = Server{URL: p.URL(), PID: p.Pid()}
	})
	return s, err
}

// RabbitMQ starts a RabbitMQ. It returns when it serves.
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

// stage lets what was written for tests start servers for the lab: what a test would fail of is an error here, and what
// it would clean up is cleaned up when the lab is closed.
func (l *Lab) stage(do func(testing.TB)) (err error) {
	if err := os.Setenv(testenv.Check, "1"); err != nil { // what is missing fails
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

// stageError is the reason for which a stage was left.
type stageError string

func (e stageError) Error() string { return string(e) }

// stage is the part of a test that servers need.
type stage struct {
	testing.TB // nil: the rest of a test is not here
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
