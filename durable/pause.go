package durable

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// pausePatience is how long a pause waits until the nodes of other processes apply it. A node that does not by
	// then cannot reach the store, or has died.
	pausePatience = 3 * time.Second
	// pauseLook is how often it checks this.
	pauseLook = 50 * time.Millisecond
)

// pauses has the paused queues, and keeps this node from entering their tasks.
type pauses struct {
	*core
	claimer    *claimer
	launcher   *launcher
	dispatcher *dispatcher
	registry   *registry
	mailbox    *mailbox.Mailbox // nil without a broker

	changed wait.Signal // another process has paused or resumed a queue

	mu      sync.Mutex // guards the fields below
	version int64      // the version of the set in the store
	queues  []string
}

// Pause pauses or resumes a queue. Running tasks continue. After a pause, no reachable node enters a task of the
// queue. Refusals: not_found if there is no such queue, unavailable, unknown_outcome.
func (e *Engine) Pause(ctx context.Context, queue string, paused bool) *task.Error {
	return e.pauses.set(ctx, queue, paused)
}

// set implements Engine.Pause.
func (p *pauses) set(ctx context.Context, queue string, paused bool) *task.Error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	version, err := p.config.Store.Pause(ctx, queue, paused)
	if err != nil {
		return p.refusalOf(err)
	}
	fail.Point("pause.committed")
	if err := p.read(ctx); err != nil {
		return p.refusalOf(err)
	}
	if p.mailbox != nil {
		p.mailbox.SendPause(queue, paused)
	}
	if paused && p.config.Shared {
		p.awaitOthers(ctx, version)
	}
	return nil
}

// read reads the paused queues, and makes all engines of this process apply them.
func (p *pauses) read(ctx context.Context) error {
	paused, err := p.config.Store.Paused(ctx)
	if err != nil {
		return err
	}
	p.apply(paused)
	for _, other := range p.hub.members() {
		other.pauses.apply(paused)
	}
	return nil
}

// apply keeps tasks of paused queues from being entered, and releases those that wait here.
func (p *pauses) apply(paused store.Paused) {
	p.mu.Lock()
	if paused.Version < p.version || paused.Version == p.version && slices.Equal(paused.Queues, p.queues) {
		p.mu.Unlock()
		return
	}
	resumed := slices.ContainsFunc(p.queues, func(queue string) bool { return !slices.Contains(paused.Queues, queue) })
	p.version, p.queues = paused.Version, paused.Queues
	queues := make(map[string]bool, len(paused.Queues))
	for _, queue := range paused.Queues {
		queues[queue] = true
	}
	p.attempts.SetPaused(queues)
	if p.mailbox != nil {
		p.mailbox.AllPaused(queues)
	}
	p.mu.Unlock()
	for _, a := range p.launcher.prefetch.Remove(func(a *attempt) bool { return queues[a.Task.Queue] }) {
		p.launcher.abandon(a)
	}
	if resumed {
		p.claimer.maySuspects.Store(p.config.RunsSuspects)
		p.claimer.look()
		p.dispatcher.slotsChanged(true)
	}
}

// applied returns the version that this engine has applied.
func (p *pauses) applied() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// awaitOthers waits until the nodes of other processes have applied a version, at most for pausePatience.
func (p *pauses) awaitOthers(ctx context.Context, version int64) {
	ctx, cancel := context.WithTimeout(ctx, pausePatience)
	defer cancel()
	for {
		list, err := p.config.Store.Nodes(ctx)
		if err == nil && !slices.ContainsFunc(list, func(n store.Node) bool { return n.Paused > 0 && n.Paused < version && !p.hub.has(n.Name) }) {
			return
		}
		if !wait.For(ctx, pauseLook) {
			return
		}
	}
}

// Run reads the paused queues when another process reports a change, and each second if the store is shared, until
// ctx ends. It writes the version that the node has applied to the store.
func (p *pauses) Run(ctx context.Context) {
	look, stop := p.ticker()
	defer stop()
	announced := p.applied()
	for {
		select {
		case <-look:
		case <-p.changed:
		case <-ctx.Done():
			return
		}
		call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
		if err := p.read(call); err == nil {
			if version := p.applied(); version != announced && p.config.Store.Beat(call, p.registry.self()) == nil {
				announced = version
			}
		}
		cancel()
	}
}
