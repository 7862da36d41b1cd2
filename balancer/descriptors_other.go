//go:build !unix

package balancer

// descriptorLimit is how many descriptors the process may have open: unknown here.
func descriptorLimit() (limit int, known bool) { return 0, false }
