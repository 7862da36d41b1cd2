package child

import (
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain makes the tests' process a subreaper: what a killed child leaves behind becomes its child, as it becomes that of
// a node which is the first process of a container.
func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestAHundredKilledChildrenLeaveNoProcess runs beside no other test, so that all processes are its own.
func TestAHundredKilledChildrenLeaveNoProcess(t *testing.T) {
	s, all, _ := supervise(t)
	p := shell(`echo $$; sleep 60 & wait`)
	p.Count = 10
	s.Set([]Program{p})
	for range 100 {
		one := <-all
		pid, err := strconv.Atoi(one.read(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		one.read(t) // until its end
		close(one.done)
	}
	s.Hold()
	go func() {
		for one := range all {
			close(one.done)
		}
	}()
	s.Close()
	for { // what is left of a group is reaped on a goroutine of its own, so there may be some yet
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return // there is none
		case !status.Signaled():
			t.Errorf("process %d lived on", pid)
		}
	}
}
