package node

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// firstByte waits until the client has sent something and gives its first byte,
// which stays in the socket for the door that it decides for. While it waits, the
// connection holds no buffer. It returns io.EOF when the client closes without a
// word, and os.ErrDeadlineExceeded at the deadline (the zero time: none). The
// connection has no read deadline afterwards, unless it failed.
func firstByte(conn *net.TCPConn, deadline time.Time) (byte, error) {
	var first [1]byte
	err := peekUntil(conn, deadline, func(fd int) (bool, error) {
		n, err := peek(fd, first[:])
		return n == 1, err
	})
	return first[0], err
}

// peekUntil calls look whenever the socket has become readable, until look says
// that it is done or fails. look is given the descriptor for the call only.
func peekUntil(conn *net.TCPConn, deadline time.Time, look func(fd int) (done bool, err error)) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		var done bool
		done, failed = look(int(fd))
		return done || failed != nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	return conn.SetReadDeadline(time.Time{})
}

// peek copies what the socket holds into buffer and leaves it there. It gives 0
// and no error when the socket holds nothing yet, and io.EOF when nothing will come.
func peek(fd int, buffer []byte) (int, error) {
	return receive(fd, buffer, syscall.MSG_PEEK)
}

// receive is one recvfrom, repeated when a signal came between.
func receive(fd int, buffer []byte, flags int) (int, error) {
	for {
		n, _, err := syscall.Recvfrom(fd, buffer, flags)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("recvfrom", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
