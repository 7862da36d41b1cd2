// Command embed is Posta with its own action greet. It has every verb of posta.
package main

import (
	"context"

	"github.com/posta-tasks/posta"
)

type person struct {
	Name string `json:"name"`
}

func greet(_ context.Context, in person) (string, error) { return "hello " + in.Name, nil }

func main() { posta.Main(posta.Action("greet", greet)) }
