package testenv_test

import (
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

func TestAPatternLeavesOutWhatItDoesNotSay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, pattern string
		like          bool
	}{
		{"", "", true}, {"a", "a", true}, {"a", "", false}, {"", "a", false}, {"ab", "a", false}, {"ba", "a", false},
		{"", "…", true}, {"abc", "…", true}, {"abc", "a…", true}, {"abc", "…c", true}, {"abc", "a…c", true}, {"ac", "a…c", true},
		{"abc", "b…", false}, {"abc", "…b", false}, {"a", "a…a", false}, {"abcabc", "a…c…c", true}, {"abc", "a…c…c", false},
		{"abab", "a…b", true}, {"a1b2c3d", "a…b…c…d", true}, {"a1c2b3d", "a…b…c…d", false},
	} {
		if testenv.Like(c.text, c.pattern) != c.like {
			t.Errorf("%q and the pattern %q: want %v", c.text, c.pattern, c.like)
		}
	}
}
