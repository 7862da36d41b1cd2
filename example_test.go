package posta_test

import (
	"context"

	"github.com/posta-tasks/posta"
)

type person struct {
	Name string `json:"name"`
}

func greet(_ context.Context, in person) (string, error) { return "hello " + in.Name, nil }

// A program that runs a Go function as a task. Build it as app, and try
//
//	app up
//	app enqueue greet '{"name":"Ana"}' --wait
func ExampleMain() {
	posta.Main(posta.Action("greet", greet))
}
