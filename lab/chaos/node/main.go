// Command node is posta with the actions of a chaos run. They write their journal to the file in
// POSTA_CHAOS_JOURNAL. With POSTA_CHAOS_WORKER, it is the worker in Go of the run instead.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

func main() {
	list := actions.Builtin()
	if journal := os.Getenv("POSTA_CHAOS_JOURNAL"); journal != "" {
		more, err := chaosActions(journal)
		isWorker := os.Getenv("POSTA_CHAOS_WORKER") != ""
		if err == nil && isWorker {
			err = work(more)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "posta: error:", err) // a run without its journal would prove nothing
			os.Exit(1)
		}
		if isWorker {
			return
		}
		list = append(list, more...)
	}
	cli.Main(list...)
}

// work serves the actions as a worker, until SIGTERM.
func work(list []actions.Action) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for i := range list {
		list[i].Name = strings.Replace(list[i].Name, history.InNode, history.OnWorker, 1)
	}
	w := client.Worker{
		Addr: os.Getenv("POSTA_TO"), Slots: 8, Actions: list, Drain: 20 * time.Second, MaxPause: time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	return w.Run(ctx)
}
