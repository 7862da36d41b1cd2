//go:build unix

package balancer

import "syscall"

// descriptorLimit is how many descriptors the process may have open. The Go
// runtime has raised it as far as it goes.
func descriptorLimit() (limit int, known bool) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0, false
	}
	const plenty = 1 << 30
	return int(min(uint64(r.Cur), plenty)), true
}
