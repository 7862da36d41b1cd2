package rabbitmq

import (
	"strings"
	"testing"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

func TestPackSpreadsIDsOverMessagesAndKeepsTheirOrder(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 1, 3: 3, 16: 16, 17: 9, 256: 16, 1024: 16, 2048: 32} {
		packets, err := pack(hints(1, n))
		if err != nil || len(packets) != want {
			t.Errorf("pack put %d ids into %d messages, want %d; %v", n, len(packets), want, err)
		}
		var ids []string
		for _, p := range packets {
			list, err := unpack(p.body)
			if err != nil || len(list) != p.ids {
				t.Errorf("%q: %v", p.body, err)
			}
			ids = append(ids, list...)
		}
		for i, h := range hints(1, n) {
			if ids[i] != h.ID {
				t.Fatalf("the %d-th of %d ids is %s, want %s", i, n, ids[i], h.ID)
			}
		}
	}
}

func TestNamesOfLanesAreUniqueAndShortEnoughForAMQP(t *testing.T) {
	t.Parallel()
	seen := map[string]lane{}
	for _, l := range []lane{
		{"default", "upper", task.Normal}, {"default", "upper", task.High}, {"default", "up.per", task.Normal}, {"default.normal", "up", task.Normal},
		{strings.Repeat("q", 64), strings.Repeat("á", 64), task.Low}, {strings.Repeat("q", 64), strings.Repeat("é", 64), task.Low},
	} {
		name := l.name("posta")
		if other, taken := seen[name]; taken || len(name) > maxNameBytes {
			t.Errorf("%+v and %+v are both named %s", l, other, name)
		}
		seen[name] = l
	}
}

// FuzzUnpack checks that unpack accepts only valid ids.
func FuzzUnpack(f *testing.F) {
	for _, body := range foreignBodies() {
		f.Add([]byte(body))
	}
	f.Add([]byte("01JE0000000000000000000001\n01JE0000000000000000000002"))
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := unpack(body)
		if err != nil {
			return
		}
		if len(ids) == 0 || len(ids) > maxMessageIDs || strings.Join(ids, "\n") != string(body) {
			t.Errorf("unpack(%q) = %q", body, ids)
		}
		var list []broker.Hint
		for _, id := range ids {
			list = append(list, broker.Hint{ID: id})
		}
		if _, err := pack(list); err != nil {
			t.Error(err)
		}
	})
}
