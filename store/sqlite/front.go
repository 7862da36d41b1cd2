package sqlite

import "github.com/posta-tasks/posta/task"

// laneFront is a lane that a claim looks at.
type laneFront struct {
	lane
	*laneWindow
}

// Pop takes out the lowest id; there must be one.
func (f *laneFront) Pop() string {
	id := f.IDs[0]
	f.IDs = f.IDs[1:]
	return id
}

// laneFronts are the lanes that a claim may have, by priority.
type laneFronts [lanesPerQueue][]*laneFront

// First finds the lane with the lowest id of the first priority that has any; room says how many more may be
// taken of each queue, by number. It is unknown when a lane of that priority, or of one before it, has to be read first.
func (fs *laneFronts) First(order [3]task.Priority, room map[int64]int) (first *laneFront, unknown bool) {
	for _, priority := range order {
		if first, unknown = lowest(fs[priority], room); first != nil || unknown {
			return first, unknown
		}
	}
	return nil, false
}

func lowest(fronts []*laneFront, room map[int64]int) (first *laneFront, unknown bool) {
	for _, f := range fronts {
		switch {
		case room[f.number/lanesPerQueue] == 0:
		case len(f.IDs) == 0 && !f.Whole:
			return nil, true
		case len(f.IDs) > 0 && (first == nil || f.IDs[0] < first.IDs[0]):
			first = f
		}
	}
	return first, false
}
