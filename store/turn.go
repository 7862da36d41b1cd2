package store

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

// turns assigns thirteen consecutive claims to the priorities: eight to high, four to normal and one to low,
// spread evenly. It uses weights and not a strict order, so that tasks of low priority are never starved.
const turns = "hnhhnhlhnhhnh"

// Turn returns the order in which the n-th claim of a store looks at the priorities: first the one whose turn
// it is, then the others from high to low, so that no turn is wasted. n is the number of tasks that the store
// has returned from claims without IDs.
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

// Turns returns, for each priority, the turns on which its first n tasks are claimed, counted from turn now.
// The turns of priority p begin at index p*n.
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
