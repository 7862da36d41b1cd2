package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/posta-tasks/posta/actions"
)

// A program's own action is a function: it reads the payload's JSON and returns
// what the client shall see as "data", or an error.
func ExampleNew() {
	area := actions.New("area", func(_ context.Context, call *actions.Call) (any, error) {
		var box struct{ Width, Height float64 }
		if err := json.Unmarshal(call.Payload, &box); err != nil {
			return nil, errors.New("area takes an object with width and height")
		}
		return box.Width * box.Height, nil
	})
	registry, err := actions.NewRegistry(append(actions.Builtin(), area)...)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(registry.Names())
	data, err := registry.Lookup([]byte("area")).Run(context.Background(), &actions.Call{
		Action: "area", Payload: []byte(`{"width":3,"height":2}`),
	})
	fmt.Println(data, err)
	// Output:
	// [area echo fib sleep upper]
	// 6 <nil>
}
