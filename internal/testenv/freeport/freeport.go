// Package freeport finds ports for programs that cannot use port 0, or that must come back on the same port. The
// tests of two packages run in two processes and never get the same port.
package freeport

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Take returns an address on loopback that no program listens on. The port is outside the range from which the
// kernel takes ports for outgoing connections, so that none of these can occupy it while the program restarts. It
// is reserved for this process until it ends.
func Take() (string, error) {
	const lowest, attempts = 10_000, 1_000
	beyond := outgoingPorts()
	for range attempts {
		port := lowest + rand.IntN(beyond-lowest)
		addr := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
		reserved, err := reserve(port)
		if err != nil {
			return "", err
		}
		if !reserved {
			continue
		}
		if isFree(addr) {
			return addr, nil
		}
	}
	return "", fmt.Errorf("no free port between %d and %d in %d attempts", lowest, beyond, attempts)
}

// isFree reports whether nobody listens on an address. A process that is started meanwhile would have the socket until
// its program runs, so none is started.
func isFree(addr string) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	listener, err := net.Listen("tcp", addr)
	return err == nil && listener.Close() == nil
}

// reservations has the files whose locks reserve the ports of this process. The kernel releases them when it ends.
var reservations struct {
	sync.Mutex
	files []*os.File
}

// reserve reserves a port for this process, unless another process has reserved it.
func reserve(port int) (bool, error) {
	folder := filepath.Join(os.TempDir(), "posta-ports")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return false, err
	}
	file, err := os.OpenFile(filepath.Join(folder, fmt.Sprint(port)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return false, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return false, file.Close()
	}
	reservations.Lock()
	defer reservations.Unlock()
	reservations.files = append(reservations.files, file)
	return true, nil
}

// outgoingPorts returns the first port that the kernel may take for outgoing
// connections.
func outgoingPorts() int {
	const usual = 32_768
	file, err := os.Open("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	defer file.Close()
	first := 0
	if _, err := fmt.Fscan(bufio.NewReader(file), &first); err != nil || first < 12_000 {
		return usual
	}
	return first
}
