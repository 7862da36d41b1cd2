//go:build !unix

package balancer

// descriptorLimit returns how many descriptors the process may open, which is unknown here.
func descriptorLimit() (limit int, known bool) { return 0, false }
