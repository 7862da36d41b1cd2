package sqlite

import "github.com/posta-tasks/posta/task"

// laneFront is a lane, with its window, that a claim may use.
type laneFront struct {
	lane
	*laneWindow
}

// Pop removes and returns the lowest id. The window must not be empty.
func (f *laneFront) Pop() string {
	id := f.IDs[0]
	f.IDs = f.IDs[1:]
	return id
}

// laneFronts has the lanes that a claim may use, by priority.
type laneFronts [lanesPerQueue][]*laneFront

// HasRoom reports whether a task of the lane may be taken. capacity is how many more tasks the claim may take, by
// number of the queue, and actions how many, by action that has a limit.
func (f *laneFront) HasRoom(capacity map[int64]int, actions map[string]int) bool {
	n, limited := actions[f.Action]
	return capacity[f.number/lanesPerQueue] > 0 && (!limited || n > 0)
}

// First returns the lane with the lowest id of the first priority that has any, or nil. capacity and actions
// are those of HasRoom. unknown is true if a lane of that priority, or of one
// before it, must be refilled first.
func (fs *laneFronts) First(order [3]task.Priority, capacity map[int64]int, actions map[string]int) (first *laneFront, unknown bool) {
	for _, priority := range order {
		if first, unknown = lowest(fs[priority], capacity, actions); first != nil || unknown {
			return first, unknown
		}
	}
	return nil, false
}

func lowest(fronts []*laneFront, capacity map[int64]int, actions map[string]int) (first *laneFront, unknown bool) {
	for _, f := range fronts {
		switch {
		case !f.HasRoom(capacity, actions):
		case len(f.IDs) == 0 && !f.Whole:
			return nil, true
		case len(f.IDs) > 0 && (first == nil || f.IDs[0] < first.IDs[0]):
			first = f
		}
	}
	return first, false
}
