package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/store"
)

const (
	// companyAfter is how long the process lives with its suspects before there may be twice as many.
	// A task that kills its process mostly does so at once.
	companyAfter = 250 * time.Millisecond
	// companyMost bounds the doublings.
	companyMost = 16
)

// claimSuspects takes what ran when a process died: one task, and as long as this process lives with
// that, twice as many in each companyAfter. So who kills again has little company, and what was merely
// there when a node was lost runs again within seconds, however long it takes.
func (e *Engine) claimSuspects(ctx context.Context) error {
	for {
		beside := e.hands.Suspects()
		if len(beside) > 0 && e.companySince.IsZero() {
			e.companySince = time.Now()
		}
		switch {
		case len(beside) >= e.company():
			e.nextCompany.Reset(companyAfter)
			return nil
		case e.room() == 0:
			e.suspects.Store(true) // they are the first to get a slot
			return nil
		}
		n, err := e.claimSome(ctx, e.nextSuspect(beside))
		if err != nil {
			return err
		}
		if n == 0 {
			e.companySince = time.Time{} // those that come later are of another death
			return nil
		}
	}
}

// company is how many suspects may run together by now.
func (e *Engine) company() int {
	if e.companySince.IsZero() {
		return 1
	}
	return 1 << min(time.Since(e.companySince)/companyAfter, companyMost)
}

// nextSuspect is the claim of a suspect, beside those that run already. The accused are not claimed
// beside another one: if the process died, their verdict would be that of two.
func (e *Engine) nextSuspect(beside []string) store.Claim {
	return store.Claim{Isolated: true, Quarantined: len(beside) == 0 && e.calm(), Beside: beside, Limit: 1}
}

// askForCompany has the claims take more suspects.
func (e *Engine) askForCompany() {
	e.suspects.Store(true)
	poke(e.wake)
}
