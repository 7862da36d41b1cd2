package worker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/task"
)

// TestTheFreeSlotsOfAGroupAreThoseOfItsWorkers joins, fills, empties, changes and ends workers at random.
func TestTheFreeSlotsOfAGroupAreThoseOfItsWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, freeSlots)
}

// freeSlots is the test in a bubble, in which the time that suspects need to become harmless does not pass.
func freeSlots(t *testing.T) {
	p := NewPool()
	random := rand.New(rand.NewPCG(1, 2))
	var streams []*Stream
	var leases []string
	join := func() {
		s, _, _ := p.Join(Options{ID: []byte(`"w"`), Node: "n", Actions: []string{"a"}, Slots: 1 + random.IntN(4), Send: func([]byte) {}})
		s.Open(nil)
		streams = append(streams, s)
	}
	join()
	group := p.Groups("n")[0]
	for i := range 5000 {
		s := streams[random.IntN(len(streams))]
		switch random.IntN(8) {
		case 0:
			if len(streams) < 50 {
				join()
			}
		case 1:
			if len(streams) > 1 {
				s.Close(Left)
				streams = remove(streams, s)
			}
		case 2:
			s.SetSlots(random.IntN(6))
		case 3, 4:
			if len(leases) > 0 {
				n := random.IntN(len(leases))
				p.Finish([]byte(leases[n]), "", Ending{Kind: Done})
				leases = append(leases[:n], leases[n+1:]...)
			}
		default:
			id := fmt.Sprintf("T%d", i)
			pushed := Task{
				Lease: id + ".1", Action: "a", Timeout: time.Hour, Ended: func(Ending) {}, Payload: bytes.Repeat([]byte("1"), random.IntN(1<<19)),
				Durable: &task.Task{ID: id, Suspect: random.IntN(10) == 0},
			}
			if group.Push(pushed, func(_, _ string) bool { return random.IntN(20) > 0 }) {
				leases = append(leases, pushed.Lease)
			}
		}
		p.mu.Lock()
		free, suspects := 0, 0
		for _, s := range group.ready {
			free += s.free()
			suspects += s.suspects
		}
		got, some := group.ready.free(0, 1<<20), min(group.ready.free(0, 7), 7)
		p.mu.Unlock()
		if got != free || some != min(free, 7) || group.suspects != suspects {
			t.Fatalf("step %d: %d free slots and %d suspects, want %d and %d; %d of the first 7", i, got, group.suspects, free, suspects, some)
		}
	}
	for _, s := range streams {
		s.Close(Left)
	}
}

func remove(list []*Stream, s *Stream) (rest []*Stream) {
	for _, other := range list {
		if other != s {
			rest = append(rest, other)
		}
	}
	return rest
}
