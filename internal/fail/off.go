//go:build !chaos

package fail

// Point does nothing. The compiler removes it.
func Point(string) {}

// Error returns nil. The compiler removes it.
func Error(string) error { return nil }
