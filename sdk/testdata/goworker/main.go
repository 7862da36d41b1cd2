// Command goworker is a worker for TestTasksOutliveNodesAndWorkers. POSTA_TO names the nodes.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	double := actions.New("go", func(_ context.Context, call *actions.Call) (any, error) {
		var in struct{ Number int }
		if err := json.Unmarshal(call.Payload, &in); err != nil {
			return nil, err
		}
		time.Sleep(50 * time.Millisecond) // stands for work
		return 2 * in.Number, nil
	})
	worker := client.Worker{Addr: os.Getenv("POSTA_TO"), Slots: 8, Actions: []actions.Action{double}, MaxPause: time.Second}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
