// Command client sends tasks with the Go package client: one, then several at
// once, then one that fails. It talks to POSTA_TO (127.0.0.1:9000).
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/posta-tasks/posta/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.New(client.Config{Addr: cmp.Or(os.Getenv("POSTA_TO"), "127.0.0.1:9000")})
	if err == nil {
		defer c.Close()
		err = errors.Join(one(ctx, c), many(ctx, c), failing(ctx, c))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// one sends a task and reads the result of its action.
func one(ctx context.Context, c *client.Client) error {
	result, err := c.Run(ctx, "upper", "hola")
	if err != nil {
		return err
	}
	var text string
	if err := result.Data(&text); err != nil {
		return err
	}
	fmt.Println(text)
	return nil
}

// many sends tasks from several goroutines. A Client is meant to be shared. Requests that are made together are
// sent together.
func many(ctx context.Context, c *client.Client) error {
	numbers := []int{10, 20, 100}
	answers := make([]struct{ Fib json.Number }, len(numbers))
	errs := make([]error, len(numbers))
	var group sync.WaitGroup
	for i, n := range numbers {
		group.Go(func() {
			result, err := c.Run(ctx, "fib", n)
			if err == nil {
				err = result.Decode(&answers[i])
			}
			errs[i] = err
		})
	}
	group.Wait()
	for i, n := range numbers {
		fmt.Println("fib", n, "is", answers[i].Fib)
	}
	return errors.Join(errs...)
}

// failing sends a task whose action does not exist. The reply says that the task failed.
func failing(ctx context.Context, c *client.Client) error {
	_, err := c.Run(ctx, "nope", nil)
	var failed *client.ActionError
	if !errors.As(err, &failed) {
		return err
	}
	fmt.Println(failed.Message)
	return nil
}
