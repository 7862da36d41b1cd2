package actions

import (
	"fmt"
	"slices"

	"github.com/posta-tasks/posta/task"
)

// MaxName is the longest name of an action, in bytes. A name travels in every
// request and is a label of the metrics, so it must stay short.
const MaxName = 128

// Entry is an action in a registry.
type Entry struct {
	Action
	// Index is the action's place in the registry, from 0 to Len-1 in the order
	// of registration. Whoever counts per action can use a slice for it.
	Index int
}

// Registry knows actions by name. It never changes once it is made, so any
// number of goroutines may use it without a lock.
type Registry struct {
	byName map[string]*Entry
	names  []string // sorted
}

// NewRegistry makes a registry of the actions in list. It refuses a name that is
// empty, longer than MaxName, not UTF-8, with control characters or there twice, and an action that has
// both Run and Append, or neither.
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

// check says what is wrong with an action that is to be registered.
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
	}
	return nil
}

// Lookup finds the action with exactly this name; nil when there is none. It
// does not allocate and does not keep name.
func (r *Registry) Lookup(name []byte) *Entry {
	return r.byName[string(name)]
}

// Streams tells whether an action reads its payload as a stream, so that it need not be in
// memory.
func (r *Registry) Streams(name string) bool {
	entry := r.byName[name]
	return entry != nil && entry.Streams
}

// Names lists the names, sorted. The caller must not change the list.
func (r *Registry) Names() []string {
	return r.names
}

// Len is how many actions there are.
func (r *Registry) Len() int {
	return len(r.names)
}
