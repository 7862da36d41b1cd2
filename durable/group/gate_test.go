package group_test

import (
	"testing"

	"github.com/posta-tasks/posta/durable/group"
)

func TestAGateThatIsShutTellsWhenTheLastCallIsOver(t *testing.T) {
	t.Parallel()
	var g group.Gate
	for range 2 {
		if !g.Enter() {
			t.Fatal("it is shut at first")
		}
	}
	over := g.Shut()
	if g.Enter() {
		t.Error("a call came in after it was shut")
	}
	g.Leave()
	select {
	case <-over:
		t.Fatal("a call is under way")
	default:
	}
	g.Leave()
	<-over
	<-g.Shut() // once more
	var empty group.Gate
	<-empty.Shut()
}
