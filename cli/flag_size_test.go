package cli

import "testing"

func TestASizeIsANumberOfBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"0": 0, "65536": 65536, "64KiB": 65536, "1 MiB": 1 << 20, "2GiB": 2 << 30} {
		var s sizeFlag
		if err := s.Set(text); err != nil || int(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1MB", "99999999999GiB"} {
		var s sizeFlag
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken for %d bytes", text, s)
		}
	}
	for n, want := range map[sizeFlag]string{0: "0", 1000: "1000", 1 << 20: "1MiB", 3 << 10: "3KiB"} {
		if got := n.String(); got != want {
			t.Errorf("%d is %q, want %q", int(n), got, want)
		}
	}
}
