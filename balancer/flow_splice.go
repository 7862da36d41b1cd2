//go:build linux && !386 && !s390x

package balancer

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferSize limits one read, in bytes. It holds a few hundred small tasks. A burst that
// fills it is probably a large payload, and is spliced.
const bufferSize = 32 << 10

// carrier lends a buffer, or a pipe for splicing, to flows while bytes pass. A flow first
// waits for bytes and then borrows, so an idle connection occupies neither. A carrier is safe
// for concurrent use.
type carrier struct {
	buffers sync.Pool
	pipes   *pipes
}

// newCarrier returns a carrier. Close it when every relay has ended.
func newCarrier() *carrier {
	return &carrier{
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
		pipes:   newPipes(),
	}
}

// close closes the pipes. The run of every relay must have returned.
func (c *carrier) close() { c.pipes.close() }

// carry copies from one connection to the other until one of them ends or a deadline
// passes. While it waits to write, and expires is not nil, it stores the time at which
// stallTimeout is reached there.
func (c *carrier) carry(from, to *net.TCPConn, expires *atomic.Int64) ending {
	source, err := from.SyscallConn()
	if err != nil {
		return sourceBroken
	}
	target, err := to.SyscallConn()
	if err != nil {
		return targetBroken
	}
	f := &flow{carrier: c, target: target, expires: expires}
	f.write, f.spliceOut = f.writeUnsent, f.writePiped
	// If the kernel does not have this option, reads carry no hint, and receive assumes that
	// there is more.
	_ = source.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_INQ, 1)
	})
	if source.Read(f.pump) != nil {
		return stopped
	}
	return f.how
}

// flow is one direction of a connection.
//
// It makes its system calls in the callbacks of syscall.RawConn, which allow three things
// that net.Conn does not. The flow waits without a buffer. The kernel's hint (TCP_INQ) saves
// the read that would find nothing, which is a third of all calls when lines are short. And
// calls that cannot block skip the scheduler.
type flow struct {
	carrier *carrier
	target  syscall.RawConn
	expires *atomic.Int64
	how     ending

	receiver receiver
	unsent   []byte // bytes that write still has to send

	pipe  *pipe
	piped int // bytes in the pipe, which spliceOut still has to send

	write     func(fd uintptr) bool // writeUnsent, bound once
	spliceOut func(fd uintptr) bool // writePiped, bound once
	failure   error                 // of write or spliceOut
}

// step is what a flow does after a burst.
type step int

const (
	stepWait    step = iota // wait until the socket is readable
	stepAgain               // read again: there are, or may be, more bytes
	stepFlooded             // splice: there are many more bytes
	stepOver                // the flow is over; how says why
)

// pump copies the bytes of fd. RawConn.Read calls it when fd may be readable; it reports
// whether the flow is over. One RawConn.Read lasts for the whole flow, since that call
// remembers readiness that was signalled during a burst.
func (f *flow) pump(fd uintptr) bool {
	next := stepAgain
	for {
		switch next {
		case stepWait:
			return false
		case stepAgain:
			next = f.burst(fd)
		case stepFlooded:
			next = f.splice(int(fd))
		case stepOver:
			return true
		}
	}
}

// burst reads once and sends the bytes.
func (f *flow) burst(fd uintptr) step {
	buffer := f.carrier.buffers.Get().(*[bufferSize]byte)
	defer f.carrier.buffers.Put(buffer)
	n, more, errno := f.receiver.receive(fd, buffer[:])
	switch {
	case errno == unix.EAGAIN:
		return stepWait
	case errno == unix.EINTR:
		return stepAgain
	case errno != 0:
		return f.end(sourceBroken)
	case n == 0:
		return f.end(endOfStream)
	}
	f.unsent = buffer[:n]
	sent := f.send(f.write)
	f.unsent = nil
	switch {
	case !sent:
		return stepOver
	case n == bufferSize && more:
		return stepFlooded
	case more:
		return stepAgain
	}
	return stepWait
}

func (f *flow) end(how ending) step {
	f.how = how
	return stepOver
}

// send calls try, which is writeUnsent or writePiped, whenever the target may be writable,
// until try has sent everything. If it fails, the flow is over and send returns false.
func (f *flow) send(try func(fd uintptr) bool) bool {
	err := f.target.Write(try)
	if f.expires != nil && f.expires.Load() != 0 {
		f.expires.Store(0)
	}
	switch {
	case err != nil:
		f.how = stopped
	case f.failure != nil:
		f.how = targetBroken
	default:
		return true
	}
	return false
}

// stall sets the deadline of a target that accepts no more bytes.
func (f *flow) stall() {
	if f.expires != nil {
		f.expires.Store(time.Now().Add(stallTimeout).UnixNano())
	}
}

func (f *flow) writeUnsent(fd uintptr) bool {
	for len(f.unsent) > 0 {
		n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(f.unsent))), uintptr(len(f.unsent)))
		switch errno {
		case 0:
			f.unsent = f.unsent[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			f.stall()
			return false
		default:
			f.failure = errno
			return true
		}
	}
	return true
}

// spliceSize limits one splice, in bytes. A pipe holds as much.
const spliceSize = pipeSize

// splice copies a large burst inside the kernel, through a borrowed pipe, until the source
// is empty.
func (f *flow) splice(fd int) step {
	f.pipe = f.carrier.pipes.borrow()
	if f.pipe == nil {
		return stepAgain // all pipes are in use: use a buffer
	}
	next := stepAgain
	for next == stepAgain {
		next = f.spliceOnce(fd)
	}
	f.carrier.pipes.release(f.pipe, f.piped == 0)
	f.pipe = nil
	return next
}

func (f *flow) spliceOnce(fd int) step {
	n, err := unix.Splice(fd, nil, f.pipe.in, nil, spliceSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return stepWait
	case errors.Is(err, unix.EINTR):
		return stepAgain
	case err != nil:
		return f.end(sourceBroken)
	case n == 0:
		return f.end(endOfStream)
	}
	f.piped = int(n)
	if !f.send(f.spliceOut) {
		return stepOver
	}
	return stepAgain
}

func (f *flow) writePiped(fd uintptr) bool {
	for f.piped > 0 {
		n, err := unix.Splice(f.pipe.out, nil, int(fd), nil, f.piped, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == nil:
			f.piped -= int(n)
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			f.stall()
			return false
		default:
			f.failure = err
			return true
		}
	}
	return true
}

// receiver holds the arguments of a recvmsg call. The flow keeps it, so that a call does not
// allocate.
type receiver struct {
	header  unix.Msghdr
	vector  unix.Iovec
	control struct {
		header unix.Cmsghdr
		queued int32 // bytes left in the socket; at least 1 if the FIN has arrived
		_      int32
	}
}

// receive reads from fd without waiting. more reports whether another read would find
// bytes or the end of the stream.
func (r *receiver) receive(fd uintptr, buffer []byte) (n int, more bool, errno syscall.Errno) {
	r.vector.Base = unsafe.SliceData(buffer)
	r.vector.SetLen(len(buffer))
	r.control.header.Type = 0
	r.header = unix.Msghdr{Iov: &r.vector, Control: (*byte)(unsafe.Pointer(&r.control))}
	r.header.SetIovlen(1)
	r.header.SetControllen(int(unsafe.Sizeof(r.control)))
	got, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.header)), 0)
	r.vector.Base = nil // the buffer goes back to its pool
	if errno != 0 {
		return 0, false, errno
	}
	hinted := r.control.header.Level == unix.IPPROTO_TCP && r.control.header.Type == unix.TCP_CM_INQ
	return int(got), !hinted || r.control.queued > 0, 0
}
