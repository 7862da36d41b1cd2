package store

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

// turns deals thirteen claims to the priorities: eight high, four normal, one low, as
// evenly as that goes. Weights rather than strict order, so that low is never starved.
const turns = "hnhhnhlhnhhnh"

// Turn gives the order in which the n-th claim of a store looks at the priorities: the
// one whose turn it is, then the others from high to low, so that no turn is wasted.
// A store counts the tasks that it gives to Claims without IDs.
func Turn(n int) [3]task.Priority {
	switch turns[n%len(turns)] {
	case 'n':
		return [3]task.Priority{task.Normal, task.High, task.Low}
	case 'l':
		return [3]task.Priority{task.Low, task.High, task.Normal}
	default:
		return [3]task.Priority{task.High, task.Normal, task.Low}
	}
}

// Turns gives, priority by priority, on which turns from now on the first n tasks of it come.
func Turns(now, n int) []int32 {
	all := make([]int32, 3*n)
	var filled [3]int
	for turn := 0; slices.Min(filled[:]) < n; turn++ {
		p := Turn(now + turn)[0]
		if filled[p] < n {
			all[int(p)*n+filled[p]] = int32(turn)
			filled[p]++
		}
	}
	return all
}
