//go:build !unix

package balancer

// descriptorLimit reports that the number of descriptors that the process may open is unknown.
func descriptorLimit() (limit int, known bool) { return 0, false }
