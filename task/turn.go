package task

// turns assigns thirteen consecutive tasks to the priorities: eight to high, four to normal and one to low, spread
// evenly. It uses weights and not a strict order, so that tasks of low priority are never starved.
const turns = "hnhhnhlhnhhnh"

// Turn returns the order in which the priorities are searched for the n-th task, counted from 0: first the one whose
// turn it is, then the others from high to low, so that no turn is wasted. Stores and brokers use the same order.
func Turn(n int) [3]Priority {
	switch turns[n%len(turns)] {
	case 'n':
		return [3]Priority{Normal, High, Low}
	case 'l':
		return [3]Priority{Low, High, Normal}
	default:
		return [3]Priority{High, Normal, Low}
	}
}
