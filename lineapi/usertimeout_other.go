//go:build !linux

package lineapi

import "time"

// setUserTimeout does nothing where the kernel has no such option.
func setUserTimeout(int, time.Duration) {}
