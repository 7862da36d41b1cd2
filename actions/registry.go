package actions

import (
	"fmt"
	"slices"

	"github.com/posta-tasks/posta/task"
)

// MaxName is the longest name of an action, in bytes. Names are short, since they are in
// every request and are labels of metrics.
const MaxName = 128

// Entry is an action in a registry.
type Entry struct {
	Action
	// Index is the action's position in the order of registration, from 0 to Len-1. Use
	// it to count per action in a slice.
	Index int
}

// Registry holds actions by name. It never changes, so it is safe for concurrent use
// without a lock.
type Registry struct {
	byName map[string]*Entry
	names  []string // sorted
}

// NewRegistry returns a registry of the actions in list. It refuses a name that is empty,
// longer than MaxName, not UTF-8, or a duplicate, or that has control characters. It also
// refuses an action with both Run and Append, or with neither.
func NewRegistry(list ...Action) (*Registry, error) {
	r := &Registry{byName: make(map[string]*Entry, len(list))}
	for i, action := range list {
		if err := check(action); err != nil {
			return nil, err
		}
		if r.byName[action.Name] != nil {
			return nil, fmt.Errorf("action %q is registered twice", action.Name)
		}
		r.byName[action.Name] = &Entry{Action: action, Index: i}
		r.names = append(r.names, action.Name)
	}
	slices.Sort(r.names)
	return r, nil
}

// check returns what is wrong with an action, if anything.
func check(action Action) error {
	switch {
	case action.Name == "":
		return fmt.Errorf("an action needs a name of 1 to %d bytes", MaxName)
	case len(action.Name) > MaxName:
		return fmt.Errorf("action name %q… has %d bytes, at most %d are allowed", action.Name[:32], len(action.Name), MaxName)
	case task.CheckName("it", action.Name) != nil:
		return fmt.Errorf("action name %q: %s", action.Name, task.CheckName("it", action.Name).Message)
	case action.Run == nil && action.Append == nil:
		return fmt.Errorf("action %q has no function: set Run or Append", action.Name)
	case action.Run != nil && action.Append != nil:
		return fmt.Errorf("action %q has two functions: set either Run or Append", action.Name)
	case action.Slots < 0 || action.Timeout < 0:
		return fmt.Errorf("action %q has negative slots or a negative timeout", action.Name)
	case action.Quick && (action.Slots > 0 || action.Timeout > 0):
		return fmt.Errorf("action %q is quick: it takes no slot and has no timeout", action.Name)
	}
	return nil
}

// Lookup returns the action with exactly this name, or nil. It does not allocate, and
// does not keep name.
func (r *Registry) Lookup(name []byte) *Entry {
	return r.byName[string(name)]
}

// Streams reports whether an action reads its payload as a stream, so that the payload
// need not be in memory.
func (r *Registry) Streams(name string) bool {
	entry := r.byName[name]
	return entry != nil && entry.Streams
}

// Names returns the sorted names. The caller must not change the slice.
func (r *Registry) Names() []string {
	return r.names
}

// Len returns the number of actions.
func (r *Registry) Len() int {
	return len(r.names)
}
