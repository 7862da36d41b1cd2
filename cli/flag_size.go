package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// sizeFlag is a flag for a number of bytes, such as 65536, 64KiB or 1MiB.
type sizeFlag int

// String returns the number in the largest unit that fits.
func (s *sizeFlag) String() string {
	switch n := int(*s); {
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n > 0 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	default:
		return strconv.Itoa(n)
	}
}

// Type returns the kind of value for the help.
func (s *sizeFlag) Type() string { return "bytes" }

// Set parses the value.
func (s *sizeFlag) Set(text string) error {
	digits, unit := strings.TrimSpace(text), 1
	for _, u := range []struct {
		name  string
		bytes int
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if rest, found := strings.CutSuffix(digits, u.name); found {
			digits, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > 1<<40/unit {
		return fmt.Errorf("%q is not a number of bytes, such as 65536, 64KiB or 1MiB", text)
	}
	*s = sizeFlag(n * unit)
	return nil
}
