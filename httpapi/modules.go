package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/posta-tasks/posta/sdk/js/browser"
	"github.com/posta-tasks/posta/task"
)

const javaScript = "text/javascript; charset=utf-8"

// moduleRoutes returns a route for each module of JavaScript that web pages import. A page imports them before it has a
// token, so they are answered to everybody.
//
//	→ GET /posta.js
//	← 200 export function connect(…
func moduleRoutes() []route {
	var list []route
	for _, m := range browser.Modules() {
		sum := sha256.Sum256(m.Text)
		tag := `"` + hex.EncodeToString(sum[:12]) + `"`
		list = append(list, route{
			method: "GET", path: m.Path, access: everybody, about: m.About,
			handle: func(s *Server, w http.ResponseWriter, r *http.Request) *task.Error {
				s.module(w, r, m.Text, tag)
				return nil
			},
			answers: []reply{{200, javaScript, "", "the module"}, {304, "", "", "the module is the one that If-None-Match names"}},
		})
	}
	return list
}

// module answers with a module, or says that the browser has it already.
func (s *Server) module(w http.ResponseWriter, r *http.Request, text []byte, tag string) {
	w.Header().Set("Cache-Control", "no-cache") // a browser keeps it, and asks before each use
	w.Header().Set("ETag", tag)
	if hasTag(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.write(w, http.StatusOK, javaScript, text)
}

// hasTag reports whether If-None-Match names an entity tag. A proxy that compresses may have made the tag weak.
func hasTag(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
