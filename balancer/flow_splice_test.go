//go:build linux && !386 && !s390x

package balancer

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// joined gives both ends of a running relay, which ends with the test.
func joined(t *testing.T, c *carrier) (client, node net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var outer [2]net.Conn
	var inner [2]*net.TCPConn
	for i := range outer {
		if outer[i], err = net.Dial("tcp", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		inner[i] = accepted.(*net.TCPConn)
		if err := outer[i].SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	var running sync.WaitGroup
	running.Go(c.join(inner[0], inner[1]).run)
	t.Cleanup(func() {
		outer[0].Close()
		outer[1].Close()
		running.Wait()
	})
	return outer[0], outer[1]
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

func TestAPipeIsGivenBackWhenTheBurstIsOver(t *testing.T) {
	t.Parallel()
	c := newCarrier()
	client, node := joined(t, c)
	transfer(t, client, node, 8<<20)
	transfer(t, node, client, 8<<20)
	deadline := time.After(20 * time.Second)
	for int(c.pipes.open.Load()) != len(c.pipes.free) {
		select {
		case <-deadline:
			t.Fatal("a pipe is still held")
		case <-time.After(time.Millisecond):
		}
	}
	if c.pipes.open.Load() == 0 {
		t.Error("8 MiB passed without a pipe")
	}
	c.close()
	if n := c.pipes.open.Load(); n != 0 {
		t.Errorf("%d pipes are open after Close", n)
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
	client, node := joined(t, c)
	transfer(t, client, node, 8<<20)
	for _, one := range held {
		c.pipes.giveBack(one, true)
	}
}

func TestAPipeWithBytesInItIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	p := newPipes()
	defer p.close()
	p.giveBack(p.borrow(), false)
	if len(p.free) != 0 || p.open.Load() != 0 {
		t.Error("the pipe was kept")
	}
}
