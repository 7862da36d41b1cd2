package node

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// firstByte waits until the client has sent something and returns the first byte, which stays
// in the socket. While it waits, the connection needs no buffer. It returns io.EOF if the
// client closes without sending, and os.ErrDeadlineExceeded at the deadline (the zero time
// means none). After success the connection has no read deadline.
func firstByte(conn *net.TCPConn, deadline time.Time) (byte, error) {
	var first [1]byte
	err := peekUntil(conn, deadline, func(fd int) (bool, error) {
		n, err := peek(fd, first[:])
		return n == 1, err
	})
	return first[0], err
}

// peekUntil calls look whenever the socket becomes readable, until look is done or fails. look
// may use the descriptor only during the call.
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

// peek copies bytes from the socket into buffer and leaves them in the socket. It returns 0
// and no error if there are none yet, and io.EOF at the end of the stream.
func peek(fd int, buffer []byte) (int, error) {
	return receive(fd, buffer, syscall.MSG_PEEK)
}

// receive calls recvfrom, again if a signal interrupts it.
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
