package batch

import (
	"context"

	"github.com/posta-tasks/posta/task"
)

// Blames reports whether an error of a shared call may be the fault of one of its items. A store or a
// broker that is away, full, or that lost its answer blames nobody: asking for less does not help.
func Blames(err error) bool {
	return err != nil && task.CodeOf(err) == task.Internal
}

// Apart makes one call for n items, call(0, n). If that fails with an error that one of them may have
// caused, it calls again for each half, and so on, until the culprits are alone. It returns nil, or the
// error of each item: nil for those that were answered. Once a call fails for another reason, or ctx
// ends, no other call is made, and the items that are left have that error. A call for k culprits among n
// items makes about 2·k·log2(n) calls.
func Apart(ctx context.Context, n int, call func(from, to int) error) []error {
	if n == 0 {
		return nil
	}
	err := call(0, n)
	if err == nil {
		return nil
	}
	errs := make([]error, n)
	if !Blames(err) || n == 1 || ctx.Err() != nil {
		fill(errs, err)
		return errs
	}
	var away error
	var halve func(from, to int)
	halve = func(from, to int) {
		middle := from + (to-from)/2
		for _, part := range [2][2]int{{from, middle}, {middle, to}} {
			from, to := part[0], part[1]
			if away != nil {
				fill(errs[from:to], away)
				continue
			}
			switch err := call(from, to); {
			case err == nil:
			case Blames(err) && to-from > 1 && ctx.Err() == nil:
				halve(from, to)
			default:
				fill(errs[from:to], err)
				if !Blames(err) || ctx.Err() != nil {
					away = err
				}
			}
		}
	}
	halve(0, n)
	return errs
}

func fill(errs []error, err error) {
	for i := range errs {
		errs[i] = err
	}
}
