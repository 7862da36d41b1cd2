package lineapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// longLine is a line of so many KiB and a little more.
func longLine(id, kib int) (line, reply string) {
	text := strings.Repeat("x", kib<<10)
	return fmt.Sprintf(`{"id":%d,"action":"echo","payload":%q}`+"\n", id, text), fmt.Sprintf(`{"id":%d,"status":"done","result":{"ok":true,"data":%q}}`, id, text)
}

const noRoom = `{"id":%s,"status":"error","code":"overloaded","error":"the clients of this node make it hold 0 MiB, its limit","limit":"max-buffered","retry_after":1}`

func TestSmallLinesNeedNothingOfTheBudget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{Budget: task.NewBudget(1)}, task.Limits{})
		v := d.visit()
		for id := range 100 {
			v.say(echoLine(id))
			v.want(done(id))
		}
	})
}

func TestALongLineWaitsUntilThereIsRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := task.NewBudget(200 << 10)
		b.Add(150 << 10)
		d := openHatch(t, Config{Budget: b}, task.Limits{})
		v := d.visit()
		line, reply := longLine(1, 90)
		go v.say(line)
		synctest.Wait()
		other := d.visit()
		other.say(echoLine(2))
		other.want(done(2))
		b.Give(150 << 10)
		v.want(reply)
		v.finish()
		v.wantEnd()
		synctest.Wait()
		if n := b.Used(); n != 0 {
			t.Errorf("%d bytes count when all is over", n)
		}
	})
}

func TestALongLineThatFindsNoRoomInTimeIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := task.NewBudget(200 << 10)
		b.Add(200 << 10)
		d := openHatch(t, Config{Budget: b}, task.Limits{LineTimeout: time.Second})
		v := d.visit()
		line, _ := longLine(1, 90)
		begun := time.Now()
		go func() { _, _ = v.conn.Write([]byte(line)) }()
		v.want(fmt.Sprintf(noRoom, "null"))
		if took := time.Since(begun); took != time.Second {
			t.Errorf("after %s", took)
		}
		v.finish()
		v.wantEnd()
		if n := b.Used(); n != 200<<10 {
			t.Errorf("%d bytes count, the test's are %d", n, 200<<10)
		}
	})
}

func TestLongLinesThatWaitForEachOtherDoNotWaitForGood(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := openHatch(t, Config{Budget: task.NewBudget(300 << 10)}, task.Limits{LineTimeout: time.Hour, Idle: 2 * time.Hour})
		first, second := d.visit(), d.visit()
		line, reply := longLine(1, 150) // which needs 256 KiB
		first.say(line[:100<<10])
		second.say(line[:100<<10])
		synctest.Wait()
		begun := time.Now()
		go func() { _, _ = first.conn.Write([]byte(line[100<<10:])) }()
		go func() { _, _ = second.conn.Write([]byte(line[100<<10:])) }()
		answers := []string{first.readLine(), second.readLine()}
		refused := fmt.Sprintf(noRoom, "null")
		if !(answers[0] == reply && answers[1] == refused) && !(answers[1] == reply && answers[0] == refused) {
			t.Errorf("received %.200q, want that one is answered and one refused", answers)
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("they waited %s for each other", took)
		}
	})
}

// TestAReplyIsRefusedAtOnceIfAllRequestsWaitForTheBudget lets the reply to a wait and a long line wait for each other.
func TestAReplyIsRefusedAtOnceIfAllRequestsWaitForTheBudget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const line = replyBytes / 2
		b := task.NewBudget(replyBytes + line)
		d := openHatch(t, Config{Budget: b}, task.Limits{})
		client, server := testenv.NewDuplex()
		defer client.Close()
		b.Add(line + waitBytes)
		reading, stop := context.WithCancel(t.Context())
		granted := make(chan bool)
		go func() { granted <- b.Wait(reading, replyBytes, line) }()
		synctest.Wait()
		begun := time.Now()
		reply := replyRoom{conn: newConn(d.Server, server), holds: waitBytes}
		if refusal := reply.take(); refusal == nil || refusal.Code != task.Overloaded {
			t.Errorf("refused with %v", refusal)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("refused after %s", took)
		}
		b.Give(waitBytes) // the wait has ended
		if !<-granted {
			t.Error("the long line gets no room")
		}
		stop()
	})
}

func TestTasksWaitWhileTheBudgetIsUsedUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := task.NewBudget(1000)
		b.Add(1200)
		d := openHatch(t, Config{Budget: b}, task.Limits{LineTimeout: time.Second})
		v := d.visit()
		v.say(echoLine(1))
		v.want(fmt.Sprintf(noRoom, "1"))
		v.say(echoLine(2))
		synctest.Wait()
		b.Give(1200)
		v.want(done(2))
		b.Add(1200)
		v.say(`{"id":3,"op":"ping"}` + "\n")
		v.want(`{"id":3,"status":"done","result":{"ok":true,"data":"pong"}}`)
	})
}

func TestRequestsCountUntilTheyAreAnsweredOrTheirClientHasGone(t *testing.T) {
	t.Parallel()
	b := task.NewBudget(1 << 20)
	d := openDoor(t, Config{Budget: b}, task.Limits{Slots: 1})
	v := d.visit()
	v.say(gateLine(1) + gateLine(2) + gateLine(3) + gateLine(4))
	d.wantBegun(1)
	counted := func(requests int) func() bool {
		return func() bool { return b.Used() == int64(requests*(requestBytes+1)) }
	}
	eventually(t, "that 4 requests count", counted(4))
	d.gates.open <- struct{}{}
	v.want(`{"id":…`)
	eventually(t, "that 3 requests count", counted(3))
	v.reset()
	eventually(t, "that none counts", counted(0))
}
