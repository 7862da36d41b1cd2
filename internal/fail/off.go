//go:build !chaos

package fail

// Point does nothing, and the compiler leaves nothing of it.
func Point(string) {}

// Error returns nil, and the compiler leaves nothing of it.
func Error(string) error { return nil }
