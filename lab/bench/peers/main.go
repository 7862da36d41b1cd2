// Command peers puts the load of `bench durable` on other queues of tasks: it produces tasks, works them, and
// tells what was acknowledged and recorded. It is a module of its own, so that the libraries of these systems
// stay out of Posta's.
//
//	peers beanstalkd ADDRESS
//	peers asynq ADDRESS                        (of a Redis server)
//	peers river FILE                           (of SQLite)
//	peers river-postgres URL                   (of an empty PostgreSQL database)
//	peers river-postgres-default URL           (the same with River's own settings)
//	peers rabbitmq-raw URL                     (of RabbitMQ: no task queue, what the broker alone can)
//	peers celery 'AMQP_URL POSTGRESQL_URL'     (one argument; needs Debian's python3-celery)
//	peers celery-bare AMQP_URL                 (the same, but no results are stored)
//
// It prints "ready", then answers each line of its standard input, a request, with a line, what came of it,
// until its input ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// request describes one round.
type request struct {
	Producers int           `json:"producers"`
	Batch     int           `json:"batch"`  // tasks in one call
	Work      bool          `json:"work"`   // the tasks are run, and not only enqueued
	For       time.Duration `json:"for_ns"` // how long tasks are enqueued
	Most      int64         `json:"most"`   // largest number of tasks, so that a slow peer has run them soon; 0: no limit
	Rate      int           `json:"rate"`   // tasks a second, each in its own call with its latency measured; 0: as fast as possible
}

// answer is the outcome of one round.
type answer struct {
	Tasks int           `json:"tasks"`
	Took  time.Duration `json:"took_ns"` // until the last task was acknowledged, or recorded if the tasks run
	P50   time.Duration `json:"p50_ns,omitempty"`
	P99   time.Duration `json:"p99_ns,omitempty"`
	Error string        `json:"error,omitempty"`
}

// peer is a system that keeps tasks.
type peer interface {
	// producer returns a producer for one goroutine. Tasks that are not to be run go to a queue without workers.
	producer(worked bool) (producer, error)
	// finished returns how many tasks were recorded since the peer was opened.
	finished() (int64, error)
	// forget deletes the tasks of a round.
	forget() error
	close()
}

// sleeper is a peer whose connections would break while it is frozen.
type sleeper interface {
	// wake is called before each round and opens the connections. forget, at the end of the round, closes them.
	wake() error
}

// producer enqueues tasks and returns when they are acknowledged. The payload of a task is 4 bytes and its number.
type producer interface {
	enqueue(numbers []int64) error
	close()
}

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: peers KIND PLACE")
	}
	switch args[0] {
	case "celery":
		return becomeCelery(ctx, args[1], 2)
	case "celery-bare":
		return becomeCelery(ctx, args[1], 1)
	}
	kinds := map[string]func(context.Context, string, *clock) (peer, error){
		"beanstalkd": openBeanstalkd, "asynq": openAsynq, "river": openRiver,
		"river-postgres": openRiverTuned, "river-postgres-default": openRiverDefault, "rabbitmq-raw": openRabbitMQ,
	}
	open := kinds[args[0]]
	if open == nil {
		return fmt.Errorf("no peer is known as %q", args[0])
	}
	times := newClock()
	p, err := open(ctx, args[1], times)
	if err != nil {
		return err
	}
	defer p.close()
	fmt.Fprintln(out, "ready")
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		a, err := round(p, times, r)
		if err != nil {
			a.Error = err.Error()
		}
		if err := json.NewEncoder(out).Encode(a); err != nil {
			return err
		}
	}
	return nil
}
