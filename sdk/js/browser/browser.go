// Package browser holds the modules of JavaScript that nodes serve to web pages.
package browser

import (
	_ "embed"
	"regexp"
)

//go:embed posta.js
var client string

//go:embed posta-outbox.js
var outbox string

// Module is a module as nodes serve it.
type Module struct {
	Path, About string
	Text        []byte
}

// Modules returns the modules without their comments, which are most of the bytes.
func Modules() []Module {
	return []Module{
		{"/posta.js", "the client for web pages, a module of JavaScript", plain(client)},
		{"/posta-outbox.js", "the outbox of web pages that may be offline, a module of JavaScript", plain(outbox)},
	}
}

// plain removes comments and indentation. The modules have comments only between tokens, after a semicolon or on lines of their own.
func plain(module string) []byte {
	text := []byte(module)
	for _, part := range []struct{ pattern, stead string }{
		{`(?s)/\*\*.*?\*/`, ""}, {`(?m)^\s*//.*$`, ""}, {`(?m)([;{}]) // .*$`, "$1"}, {`(?m)^\s+`, ""},
	} {
		text = regexp.MustCompile(part.pattern).ReplaceAll(text, []byte(part.stead))
	}
	return text
}
