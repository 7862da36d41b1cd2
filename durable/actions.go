package durable

import (
	"math"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// actions returns the actions that the engine works now.
func (e *Engine) actions() []string {
	if e.config.Actions != nil {
		return e.config.Actions
	}
	return e.config.Executor.Actions()
}

// ActionsChanged tells the engine that its executor has other actions than before: it looks
// for tasks that it can run now.
func (e *Engine) ActionsChanged() {
	if e.mailbox != nil {
		e.mailbox.Changed()
	}
	e.stir()
}

// actionRooms returns the actions of which a claim may take tasks, and how many of those that
// have slots of their own and fewer of them free than limit. An action that is held back, or
// has no slot free, is not among them: its tasks stay in the store, where another node finds
// them. When direct tasks have taken all of an action's slots, one durable task of it waits
// with them for its turn.
func (e *Engine) actionRooms(limit int) (names []string, rooms map[string]int) {
	names = e.actions()
	limited := e.config.Executor.Limited()
	if limited == nil {
		return names, nil
	}
	all := names
	names, rooms = make([]string, 0, len(all)), map[string]int{}
	for _, name := range all {
		room, free := limited[name], math.MaxInt
		if room.Held > 0 {
			e.heldOver.Reset(room.Held)
			free = 0
		} else if room.Slots > 0 {
			mine := e.hands.RunningAction(name)
			if free = min(room.Slots-mine, room.Free); mine == 0 {
				free = max(free, 1)
			}
		}
		if free < limit {
			rooms[name] = max(free, 0)
		}
		if free > 0 {
			names = append(names, name)
		}
	}
	return names, rooms
}

// limitsAction reports whether something limits how many tasks of an action run at once on
// the node.
func (e *Engine) limitsAction(action string) bool {
	return e.config.Executor.IsLimited(action)
}

// lookForHeld looks for tasks of an action that is not held back any more.
func (e *Engine) lookForHeld() {
	if e.mailbox != nil {
		e.mailbox.Changed()
	}
	e.stir()
}

// mayHaveLeft reports whether limits of queues or actions may have kept the claim from taking
// tasks that are next: one of them is used up.
func (e *Engine) mayHaveLeft(by *store.Claim, got []task.Task) bool {
	queues, actions := map[string]int{}, map[string]int{}
	for i := range got {
		queues[got[i].Queue]++
		actions[got[i].Action]++
	}
	for name, room := range by.Rooms {
		if actions[name] >= room {
			return true
		}
	}
	for name, n := range queues {
		room, named := by.Queues[name]
		if !named {
			room = by.Queues["*"]
		}
		if by.Queues != nil && n >= room {
			return true
		}
	}
	for name, room := range by.Queues {
		if name != "*" && room == 0 {
			return true
		}
	}
	return false
}
