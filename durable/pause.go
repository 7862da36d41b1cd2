package durable

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// pausePatience is how long a pause waits for nodes of other processes to heed it. Who has not heard of it by then
	// cannot reach the store, or is about to be taken for dead.
	pausePatience = 3 * time.Second
	// pauseLook is how often it looks whether they do.
	pauseLook = 50 * time.Millisecond
)

// pauses is which queues are paused, as far as the engine knows.
type pauses struct {
	look chan struct{} // for who reads them from the store: they may have changed

	mu      sync.Mutex // guards all below
	version int64      // of the store's
	queues  []string
}

// Pause stops a queue, or lets it go on. Running tasks finish; after a pause none is entered by a node that can be
// reached.
func (e *Engine) Pause(ctx context.Context, queue string, paused bool) *task.Error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	version, err := e.config.Store.Pause(ctx, queue, paused)
	if err != nil {
		return e.refusalOf(err)
	}
	fail.Point("pause.committed")
	if err := e.lookAtPauses(ctx); err != nil {
		return e.refusalOf(err)
	}
	if e.mailbox != nil {
		e.mailbox.TellPause(queue, paused)
	}
	if paused && e.config.Shared {
		e.awaitPause(ctx, version)
	}
	return nil
}

// lookAtPauses reads what is paused, and has all engines of the process heed it.
func (e *Engine) lookAtPauses(ctx context.Context) error {
	paused, err := e.config.Store.Paused(ctx)
	if err != nil {
		return err
	}
	e.heed(paused)
	for _, other := range e.hub.members() {
		other.heed(paused)
	}
	return nil
}

// heed keeps tasks of paused queues from being entered, and gives back those that wait here.
func (e *Engine) heed(paused store.Paused) {
	p := &e.pauses
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
	e.hands.SetPaused(queues)
	if e.mailbox != nil {
		e.mailbox.AllPaused(queues)
	}
	p.mu.Unlock()
	for _, h := range e.ahead.Take(func(h *attempt) bool { return queues[h.Task.Queue] }) {
		e.abandon(h)
	}
	if resumed {
		e.suspects.Store(e.config.Lone)
		e.stir()
	}
}

// pauseVersion is the version that the engine heeds.
func (e *Engine) pauseVersion() int64 {
	e.pauses.mu.Lock()
	defer e.pauses.mu.Unlock()
	return e.pauses.version
}

// awaitPause waits until the nodes of other processes heed a version, but not for long.
func (e *Engine) awaitPause(ctx context.Context, version int64) {
	ctx, cancel := context.WithTimeout(ctx, pausePatience)
	defer cancel()
	for {
		list, err := e.config.Store.Nodes(ctx)
		if err == nil && !slices.ContainsFunc(list, func(n store.Node) bool { return n.Paused > 0 && n.Paused < version && !e.hub.has(n.Name) }) {
			return
		}
		if !pause(ctx, pauseLook) {
			return
		}
	}
}

// has tells whether a node is an engine of the hub.
func (h *Hub) has(node string) bool {
	return slices.ContainsFunc(h.members(), func(e *Engine) bool { return e.config.Node == node })
}

// watchPauses reads what is paused when another process says so, and each second where the store is shared; it tells the
// store which version the node heeds.
func (e *Engine) watchPauses(ctx context.Context) {
	look, stop := e.lookOut()
	defer stop()
	told := e.pauseVersion()
	for {
		select {
		case <-look:
		case <-e.pauses.look:
		case <-ctx.Done():
			return
		}
		call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
		if err := e.lookAtPauses(call); err == nil {
			if version := e.pauseVersion(); version != told && e.config.Store.Beat(call, e.self()) == nil {
				told = version
			}
		}
		cancel()
	}
}
