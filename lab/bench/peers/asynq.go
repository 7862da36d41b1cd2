package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/hibiken/asynq"
)

// asynqWorkers is how many tasks run at once.
const asynqWorkers = 64

// asynqPeer is Asynq. A task has run when Asynq counts it as processed.
type asynqPeer struct {
	redis     asynq.RedisClientOpt
	server    *asynq.Server
	inspector *asynq.Inspector
	enqueued  atomic.Int64 // tasks that are to be run
	handled   atomic.Int64
}

func openAsynq(_ context.Context, addr string, times *clock) (peer, error) {
	p := &asynqPeer{redis: asynq.RedisClientOpt{Addr: addr, PoolSize: 2 * asynqWorkers}}
	p.inspector = asynq.NewInspector(p.redis)
	p.server = asynq.NewServer(p.redis, asynq.Config{Concurrency: asynqWorkers, LogLevel: asynq.FatalLevel})
	return p, p.server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		number, err := strconv.ParseInt(string(t.Payload()[4:]), 10, 64)
		times.done(number)
		p.handled.Add(1)
		return err
	}))
}

// finished asks Redis only after all handlers have ended, since the request is expensive for the server.
func (p *asynqPeer) finished() (int64, error) {
	if handled, enqueued := p.handled.Load(), p.enqueued.Load(); handled < enqueued || enqueued == 0 {
		return handled, nil
	}
	info, err := p.inspector.GetQueueInfo("default")
	if err != nil {
		return 0, err
	}
	if info.FailedTotal > 0 {
		return 0, fmt.Errorf("asynq: %d tasks failed", info.FailedTotal)
	}
	return int64(info.ProcessedTotal), nil
}

func (p *asynqPeer) forget() error {
	queues, err := p.inspector.Queues()
	if err != nil || !slices.Contains(queues, "backlog") {
		return err
	}
	_, err = p.inspector.DeleteAllPendingTasks("backlog")
	return err
}

func (p *asynqPeer) close() {
	p.server.Shutdown()
	p.inspector.Close()
}

// asynqProducer is one client. Asynq has no call for many tasks.
type asynqProducer struct {
	peer   *asynqPeer
	client *asynq.Client
	queue  string
}

func (p *asynqPeer) producer(worked bool) (producer, error) {
	queue := "default"
	if !worked {
		queue = "backlog"
	}
	return &asynqProducer{peer: p, client: asynq.NewClient(p.redis), queue: queue}, nil
}

func (p *asynqProducer) enqueue(numbers []int64) error {
	for _, n := range numbers {
		task := asynq.NewTask("upper", fmt.Appendf(nil, "hola%012d", n))
		if _, err := p.client.Enqueue(task, asynq.Queue(p.queue)); err != nil {
			return err
		}
		if p.queue == "default" {
			p.peer.enqueued.Add(1)
		}
	}
	return nil
}

func (p *asynqProducer) close() { p.client.Close() }
