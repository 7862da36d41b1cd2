package store

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

// Turns returns, for each priority, the turns on which its first n tasks are claimed, counted from turn now.
// The turns of priority p begin at index p*n.
func Turns(now, n int) []int32 {
	all := make([]int32, 3*n)
	var filled [3]int
	for turn := 0; slices.Min(filled[:]) < n; turn++ {
		p := task.Turn(now + turn)[0]
		if filled[p] < n {
			all[int(p)*n+filled[p]] = int32(turn)
			filled[p]++
		}
	}
	return all
}
