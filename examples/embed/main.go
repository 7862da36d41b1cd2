// Command embed is a Posta node with an action of its own, reverse, beside the
// built-in ones. It serves POSTA_LISTEN (127.0.0.1:9001) until Ctrl-C; try
//
//	echo '{"action":"reverse","payload":"hola"}' | nc -N 127.0.0.1 9001
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/node"
)

// reverse is the action. What it returns becomes the result's "data", an error its
// "error".
func reverse(_ context.Context, call *actions.Call) (any, error) {
	var text string
	if err := json.Unmarshal(call.Payload, &text); err != nil {
		return nil, fmt.Errorf("reverse wants a string: %w", err)
	}
	letters := []rune(text)
	slices.Reverse(letters)
	return string(letters), nil
}

func serve(ctx context.Context) error {
	n, err := node.New(node.Config{
		Listen:  cmp.Or(os.Getenv("POSTA_LISTEN"), "127.0.0.1:9001"),
		Actions: append(actions.Builtin(), actions.New("reverse", reverse)),
	})
	if err != nil {
		return err
	}
	fmt.Println("listening on", n.Addr())
	return n.Run(ctx)
}

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
