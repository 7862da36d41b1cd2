package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

// Pages of other origins can use the API if --allow-origin lists their origin. They send a token in a header, or as the
// first message of a WebSocket: a cookie or the dashboard is never theirs.

// checkedOrigin returns an origin as browsers write it, or an error that says how it must look.
func checkedOrigin(text string) (string, error) {
	parsed, err := url.Parse(text)
	switch {
	case text == "*":
		return "", fmt.Errorf("httpapi: the allowed origin * would let every web page in; list each origin, such as https://app.example")
	case err != nil || parsed.Scheme == "" || parsed.Hostname() == "" || strings.ContainsAny(text, "*, "):
		return "", fmt.Errorf("httpapi: allowed origin %q is not an origin, such as https://app.example or http://localhost:3000", text)
	}
	origin := strings.ToLower(parsed.Scheme + "://" + parsed.Host)
	if !strings.EqualFold(origin, text) {
		return "", fmt.Errorf("httpapi: allowed origin %q has more than a scheme, a host and a port; write %s", text, origin)
	}
	if port := parsed.Port(); parsed.Scheme == "https" && port == "443" || parsed.Scheme == "http" && port == "80" {
		return "", fmt.Errorf("httpapi: browsers leave out the port of the allowed origin %q; write %s", text, strings.TrimSuffix(origin, ":"+port))
	}
	return origin, nil
}

// foreignOrigin returns the origin of the web page that has sent a request, if it is another one than this node's and
// --allow-origin lists it; otherwise "".
func (s *Server) foreignOrigin(r *http.Request) string {
	if len(s.allowed) == 0 {
		return ""
	}
	values := r.Header.Values("Origin")
	if len(values) != 1 || !s.allowed[values[0]] || r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return ""
	}
	return values[0]
}

// share lets a page of an allowed origin read the answer.
func (s *Server) share(w http.ResponseWriter, origin string) {
	header := w.Header()
	if len(s.allowed) > 0 {
		header.Add("Vary", "Origin")
	}
	if origin != "" {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Expose-Headers", "Location, Retry-After, Allow, Accept, WWW-Authenticate")
		header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
}

// isPreflight reports whether a browser asks what a page of another origin may send.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// preflight answers that a page of an allowed origin may send the requests of a path.
func (e *endpoint) preflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", e.allow())
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID")
	header.Set("Access-Control-Max-Age", "7200")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		header.Set("Access-Control-Allow-Private-Network", "true")
	}
	w.WriteHeader(http.StatusNoContent)
}

// cookieToken returns the token in the cookie of a browser that has logged in here. That of a page of another origin does
// not count.
func (s *Server) cookieToken(r *http.Request) string {
	if s.foreignOrigin(r) != "" {
		return ""
	}
	return auth.SessionToken(r)
}

// refuseLogin refuses a login by a page of another origin, which would replace that of the visitor.
func (s *Server) refuseLogin(r *http.Request) *task.Error {
	if s.foreignOrigin(r) != "" {
		return task.RefuseField(task.Forbidden, "Origin", "a page of another origin has no session here; it sends its token with each request")
	}
	return nil
}
