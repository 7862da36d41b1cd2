package batch_test

import (
	"testing"

	"github.com/posta-tasks/posta/durable/batch"
)

func TestAGateThatIsShutTellsWhenTheLastCallIsOver(t *testing.T) {
	t.Parallel()
	var g batch.Gate
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
	var empty batch.Gate
	<-empty.Shut()
}
