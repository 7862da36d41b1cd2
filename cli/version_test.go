package cli

import (
	"runtime/debug"
	"testing"
)

func TestTheVersionIsThatOfPostaInAnyProgram(t *testing.T) {
	t.Parallel()
	clone := debug.Module{Path: module, Version: "v1.2.3"}
	cases := map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"posta itself":      {debug.BuildInfo{Main: clone}, "v1.2.3"},
		"of no release":     {debug.BuildInfo{Main: debug.Module{Path: module, Version: "(devel)"}}, "devel"},
		"a program with it": {debug.BuildInfo{Main: debug.Module{Path: "example.com/app", Version: "v9.0.0"}, Deps: []*debug.Module{&clone}}, "v1.2.3"},
		"beside a clone":    {debug.BuildInfo{Deps: []*debug.Module{{Path: module, Version: "v1.2.3", Replace: &debug.Module{Path: "../posta"}}}}, "devel"},
	}
	for name, c := range cases {
		if got := versionIn(&c.info); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
