//go:build unix

package balancer

import "syscall"

// descriptorLimit returns how many descriptors the process may open. The Go runtime has
// already raised the limit to its maximum.
func descriptorLimit() (limit int, known bool) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0, false
	}
	const plenty = 1 << 30
	return int(min(uint64(r.Cur), plenty)), true
}
