package batch

import (
	"context"
	"fmt"

	"github.com/posta-tasks/posta/task"
)

// IsItemFault reports whether an error of a shared call may be the fault of one of its items. If the store or the
// broker is away or full, or if its answer was lost, no item is at fault, and a smaller call does not help.
func IsItemFault(err error) bool {
	return err != nil && task.CodeOf(err) == task.Internal
}

// Isolate calls call(0, n) for n items. If one of them may have caused its error, it calls again for each half, and so
// on, until each faulty item is alone. It returns nil, or one error for each item: nil for those that succeeded.
//
// Isolate stops when a call fails for another reason, or when ctx ends. If that is the first call, all items get its
// error. Later, items that have been in failed calls only, and were not tried alone, get the error unresolved: they may be
// innocent, and an earlier call may have changed them. For k faulty items of n it makes about 2·k·log2(n) calls.
func Isolate(ctx context.Context, n int, unresolved error, call func(from, to int) error) []error {
	if n == 0 {
		return nil
	}
	err := call(0, n)
	if err == nil {
		return nil
	}
	i := isolation{unresolved: unresolved, call: call, errs: make([]error, n)}
	i.failed(ctx, 0, n, err)
	return i.errs
}

// isolation is an Isolate whose first call has failed.
type isolation struct {
	unresolved error
	call       func(from, to int) error
	errs       []error
	stopped    bool
}

// failed handles the error of a call for some items.
func (i *isolation) failed(ctx context.Context, from, to int, err error) {
	switch isFault, alone := IsItemFault(err), to-from == 1; {
	case isFault && !alone && ctx.Err() == nil:
		middle := from + (to-from)/2
		i.try(ctx, from, middle)
		i.try(ctx, middle, to)
	case isFault && !alone:
		i.stopped = true
		fill(i.errs[from:to], i.unresolved)
	case isFault:
		i.stopped = ctx.Err() != nil
		i.errs[from] = err
	default: // the store does not answer; no item is faulty
		i.stopped = true
		if to-from < len(i.errs) {
			err = fmt.Errorf("%w: %w", i.unresolved, err)
		}
		fill(i.errs[from:to], err)
	}
}

// try calls for some items, unless no more calls are made.
func (i *isolation) try(ctx context.Context, from, to int) {
	if i.stopped {
		fill(i.errs[from:to], i.unresolved)
		return
	}
	if err := i.call(from, to); err != nil {
		i.failed(ctx, from, to, err)
	}
}

func fill(errs []error, err error) {
	for i := range errs {
		errs[i] = err
	}
}
