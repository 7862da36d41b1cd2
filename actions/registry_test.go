package actions_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
)

func nothing(context.Context, *actions.Call) (any, error) { return nil, nil }

func appendNothing(_ context.Context, _ *actions.Call, dst []byte) ([]byte, error) { return dst, nil }

func TestRegistryFindsActionsByTheirExactName(t *testing.T) {
	t.Parallel()
	r, err := actions.NewRegistry(actions.New("resize", nothing), actions.New("Mail", nothing), actions.New("ñandú", nothing))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"resize", "Mail", "ñandú"} {
		entry := r.Lookup([]byte(name))
		if entry == nil || entry.Name != name || entry.Index != i {
			t.Errorf("Lookup(%q) = %+v, want the action of that name with index %d", name, entry, i)
		}
	}
	for _, name := range []string{"", "mail", "MAIL", "resize ", "resize\x00", "resiz", "nandu"} {
		if entry := r.Lookup([]byte(name)); entry != nil {
			t.Errorf("Lookup(%q) finds %q, want nothing", name, entry.Name)
		}
	}
	if want := []string{"Mail", "resize", "ñandú"}; !slices.Equal(r.Names(), want) || r.Len() != len(want) {
		t.Errorf("Names() = %q and Len() = %d, want %q", r.Names(), r.Len(), want)
	}
}

func TestRegistryWithoutActionsIsEmpty(t *testing.T) {
	t.Parallel()
	r, err := actions.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	if r.Len() != 0 || len(r.Names()) != 0 || r.Lookup([]byte("echo")) != nil {
		t.Errorf("a registry of nothing has %q", r.Names())
	}
}

func TestRegistryRefusesWhatCannotBeCalled(t *testing.T) {
	t.Parallel()
	ok := actions.New("ok", nothing)
	for _, c := range []struct {
		name string
		list []actions.Action
		want string
	}{
		{"no name", []actions.Action{actions.New("", nothing)}, "1 to 128 bytes"},
		{"a long name", []actions.Action{actions.New(strings.Repeat("é", 65), nothing)}, "130 bytes, at most 128"},
		{"a name that is not UTF-8", []actions.Action{actions.New("a\xff", nothing)}, "not valid UTF-8"},
		{"the same name twice", []actions.Action{ok, actions.New("other", nothing), ok}, `"ok" is registered twice`},
		{"no function", []actions.Action{{Name: "idle"}}, `"idle" has no function`},
		{"two functions", []actions.Action{{Name: "both", Run: nothing, Append: appendNothing}}, `"both" has two functions`},
	} {
		r, err := actions.NewRegistry(c.list...)
		if err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error that says %s", c.name, err, c.want)
		}
	}
	if _, err := actions.NewRegistry(actions.New(strings.Repeat("n", 128), nothing)); err != nil {
		t.Errorf("a name of 128 bytes is refused: %v", err)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	r, err := actions.NewRegistry(actions.Builtin()...)
	if err != nil {
		t.Fatal(err)
	}
	name := []byte("upper")
	if n := testing.AllocsPerRun(100, func() { r.Lookup(name) }); n != 0 {
		t.Errorf("Lookup allocates %v times, want 0", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	r, err := actions.NewRegistry(actions.Builtin()...)
	if err != nil {
		b.Fatal(err)
	}
	name := []byte("upper")
	b.ReportAllocs()
	for b.Loop() {
		r.Lookup(name)
	}
}
