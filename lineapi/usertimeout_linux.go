package lineapi

import (
	"syscall"
	"time"
)

// setUserTimeout bounds how long sent data may stay without an acknowledgement.
func setUserTimeout(fd int, d time.Duration) {
	const tcpUserTimeout = 18 // TCP_USER_TIMEOUT of linux/tcp.h
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
}
