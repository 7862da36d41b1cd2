//go:build linux && !386 && !s390x

package balancer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// relayWith starts a relay of carrier c, which ends with the test, and returns both ends.
func relayWith(t *testing.T, c *carrier) (client, node net.Conn) {
	t.Helper()
	outerClient, innerClient := tcpPair(t)
	outerNode, innerNode := tcpPair(t)
	var running sync.WaitGroup
	running.Go(c.join(innerClient, innerNode).run)
	t.Cleanup(func() {
		outerClient.Close()
		outerNode.Close()
		running.Wait()
	})
	return outerClient, outerNode
}

func transfer(t *testing.T, from, to net.Conn, size int) {
	t.Helper()
	sent := bytes.Repeat([]byte("posta"), size/5+1)[:size]
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		if _, err := from.Write(sent); err != nil {
			t.Error(err)
		}
	})
	got := make([]byte, size)
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes did not pass unchanged: %v", size, err)
	}
}

func TestAPipeIsReleasedWhenTheBurstIsOver(t *testing.T) {
	t.Parallel()
	c := newCarrier()
	client, node := relayWith(t, c)
	transfer(t, client, node, 8<<20)
	transfer(t, node, client, 8<<20)
	testenv.Eventually(t, patience, func() error {
		if open, free := int(c.pipes.open.Load()), len(c.pipes.free); open != free {
			return fmt.Errorf("a pipe is still in use: %d are open and %d free", open, free)
		}
		return nil
	})
	if c.pipes.open.Load() == 0 {
		t.Error("8 MiB passed without a pipe")
	}
	c.close()
	if n := c.pipes.open.Load(); n != 0 {
		t.Errorf("%d pipes are open after close", n)
	}
}

func TestLargeBurstsPassThroughBuffersWhenAllPipesAreInUse(t *testing.T) {
	t.Parallel()
	c := newCarrier()
	defer c.close()
	var held []*pipe
	for one := c.pipes.borrow(); one != nil; one = c.pipes.borrow() {
		held = append(held, one)
	}
	if len(held) != maxPipes {
		t.Errorf("%d pipes could be borrowed, want %d", len(held), maxPipes)
	}
	client, node := relayWith(t, c)
	transfer(t, client, node, 8<<20)
	for _, one := range held {
		c.pipes.release(one, true)
	}
}

func TestAPipeThatIsNotEmptyIsNotReused(t *testing.T) {
	t.Parallel()
	p := newPipes()
	defer p.close()
	p.release(p.borrow(), false)
	if len(p.free) != 0 || p.open.Load() != 0 {
		t.Error("the pipe is still open")
	}
}
