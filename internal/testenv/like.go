package testenv

import "strings"

// Like reports whether text matches the pattern. Each … in the pattern matches any text.
func Like(text, pattern string) bool {
	parts := strings.Split(pattern, "…")
	text, found := strings.CutPrefix(text, parts[0])
	if !found || len(parts) == 1 {
		return found && text == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		if _, text, found = strings.Cut(text, part); !found {
			return false
		}
	}
	return strings.HasSuffix(text, parts[last])
}
