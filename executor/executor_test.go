package executor

import (
	"context"
	"testing"

	"github.com/posta-tasks/posta/actions"
)

// newExecutor makes an executor that is closed with the test.
func newExecutor(t testing.TB, config Config, list ...actions.Action) *Executor {
	t.Helper()
	registry, err := actions.NewRegistry(append(actions.Builtin(), list...)...)
	if err != nil {
		t.Fatal(err)
	}
	config.Registry = registry
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(t.Context()); err != nil {
			t.Log(err)
		}
	})
	return e
}

func BenchmarkLaneUpper(b *testing.B) {
	e := newExecutor(b, Config{})
	lane := e.NewLane()
	lane.Bind(e.NewSource())
	t := Task{ID: []byte("1"), Action: []byte("upper"), Payload: []byte(`"hola"`)}
	b.ReportAllocs()
	if err := lane.Enter(context.Background()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, fate := lane.Run(t); fate != Answered {
			b.Fatal("the lane was lost")
		}
	}
	lane.Leave()
}
