package httpapi

import (
	"cmp"
	"context"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

// checkSender refuses requests that a web page of another origin could make the browser of a visitor send. Programs
// of this machine can reach loopback, and a browser is one of them. allowed says that the page may use the API.
func (s *Server) checkSender(r *http.Request, health, allowed bool) *task.Error {
	if err := s.checkHost(r, health); err != nil || allowed {
		return err
	}
	return s.checkOrigin(r)
}

// checkHost refuses a host name that does not belong to this node. A web page could point its own name to
// 127.0.0.1, and would then have the same origin as this node (DNS rebinding). The Host header still contains that
// name. Health routes are answered under any name, since the checks of a balancer may send the public name, the
// address of the node, or none.
func (s *Server) checkHost(r *http.Request, health bool) *task.Error {
	if health {
		return nil
	}
	if r.Host == "" {
		return task.RefuseField(task.Forbidden, "Host", "the request has no Host header; only /healthz and /readyz are answered to HTTP/1.0 without one")
	}
	name, ok := hostName(r.Host)
	if ok && (name == "localhost" || s.hosts[name] || s.hasSuffix(name)) {
		return nil
	}
	if ip, err := netip.ParseAddr(name); ok && err == nil && s.isOurs(r, ip) {
		return nil
	}
	return task.RefuseField(task.Forbidden, "Host", "host %s is not one of this node's; if it is meant to be, start the node with --allowed-hosts %s", clip(r.Host), clip(name))
}

// hasSuffix reports whether the name is below an allowed suffix, or is the suffix without its dot.
func (s *Server) hasSuffix(name string) bool {
	return slices.ContainsFunc(s.suffixes, func(suffix string) bool { return strings.HasSuffix("."+name, suffix) })
}

// isOurs reports whether the address is a loopback address, an allowed one, or the one that the client connected
// to.
func (s *Server) isOurs(r *http.Request, ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || s.hosts[ip.String()] {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == ip
}

// hostName returns the name or address in a Host header in lower case, without its port, the brackets of IPv6 and
// the final dot.
func hostName(host string) (name string, ok bool) {
	port := ""
	if inner, found := strings.CutPrefix(host, "["); found {
		name, port, found = strings.Cut(inner, "]")
		if !found || port != "" && port[0] != ':' {
			return "", false
		}
	} else if strings.Count(host, ":") == 1 {
		name, port, _ = strings.Cut(host, ":")
	} else {
		name = host
	}
	if strings.Trim(strings.TrimPrefix(port, ":"), "0123456789") != "" {
		return "", false
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name, name != ""
}

// checkOrigin refuses requests that a browser sends for a page of another origin. Since they get no CORS headers
// either, such a page can read nothing. Following a link to a page of ours is allowed, since the other page does
// not see the answer.
func (s *Server) checkOrigin(r *http.Request) *task.Error {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	refusal := task.Refuse(task.Forbidden, "the request comes from a web page of another origin: the browser says Sec-Fetch-Site: %s", clip(site))
	if site == "" {
		refusal = task.RefuseField(task.Forbidden, "Origin", "the request comes from a web page of another origin: its Origin is %s and its Host is %s; "+
			"a proxy in between must pass on Host as the browser sent it, with the port", clip(origin), clip(r.Host))
	}
	if s.origins.Check(r) != nil {
		return refusal
	}
	switch site {
	case "same-origin", "none":
		return nil
	case "":
		if origin != "" && !sameOrigin(origin, r.Host) {
			return refusal
		}
		return nil
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if read && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
		return nil
	}
	return refusal
}

func sameOrigin(origin, host string) bool {
	parsed, err := url.Parse(origin)
	return err == nil && parsed.Host != "" && strings.EqualFold(parsed.Host, host)
}

// checkToken returns the client of a request, from its bearer token or from the cookie of a browser that has logged in. If
// the node is open, a request without either is one of the owner of the client certificate, or anonymous. If later is true,
// the token may follow on the connection; then a request without one gets nil.
func (s *Server) checkToken(w http.ResponseWriter, r *http.Request, later bool) (*auth.Identity, *task.Error) {
	values := r.Header.Values("Authorization")
	cookie := ""
	if len(values) == 0 {
		cookie = s.cookieToken(r)
	}
	open := s.verifier.IsOpen()
	switch {
	case open && (s.verifier.Keys == nil || len(values) == 0 && cookie == ""):
		return cmp.Or(connectionOf(r).identity(), s.anonymous), nil
	case later && len(values) == 0 && cookie == "":
		return nil, nil
	}
	challenge, message := `Bearer realm="posta"`, "this node asks for a token: send the header Authorization: Bearer TOKEN"
	token := cookie
	if len(values) == 1 {
		scheme, text, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			token = strings.TrimSpace(text)
		}
	}
	if open && token == "" {
		return s.anonymous, nil
	}
	if token != "" {
		if identity := s.verifier.Check(r.Context(), []byte(token)); identity != nil {
			s.known(w, r)
			return identity, nil
		}
		challenge, message = challenge+`, error="invalid_token"`, "the token is not known to this node"
	}
	switch { // the browser has logged in with a token that has ended since
	case cookie != "" && open:
		return s.anonymous, nil
	case cookie != "" && later:
		return nil, nil
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Connection", "close") // as in the line protocol, each attempt costs a connection
	return nil, task.Refuse(task.Unauthenticated, "%s", message)
}

// bind returns a context with a client, which ends with the client's key or token. The caller calls release.
func (s *Server) bind(ctx context.Context, who *auth.Identity) (bound context.Context, release func()) {
	bound = auth.NewContext(ctx, who)
	if s.verifier.Keys == nil || who.Key == "" {
		return bound, func() {}
	}
	bound, cancel := context.WithCancel(bound)
	stop := s.verifier.Keys.Watch(who, cancel)
	return bound, func() {
		stop()
		cancel()
	}
}

// known records that the client of a request has authenticated. Its connection is then kept, and its body has the
// usual time.
func (s *Server) known(w http.ResponseWriter, r *http.Request) {
	conn := connectionOf(r)
	conn.know()
	if !s.draining.Load() && !conn.endsWithAnswer() && !conn.didHide(r) {
		w.Header().Del("Connection")
	}
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.limits.LineTimeout))
	}
}

// contentType returns the content type without its parameters.
func contentType(r *http.Request) string {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind
}

// checkType requires one of the types that the route accepts. A form of another site cannot send them without a
// preflight. A charset is ignored, since JSON is UTF-8.
func (e *route) checkType(r *http.Request) *task.Error {
	want := "want Content-Type: " + strings.Join(e.takes, " or ")
	values := r.Header.Values("Content-Type")
	if len(values) != 1 {
		return task.RefuseField(task.InvalidRequest, "Content-Type", "the request has %d Content-Type headers; %s", len(values), want)
	}
	kind, parameters, err := mime.ParseMediaType(values[0])
	delete(parameters, "charset")
	if err != nil || !slices.Contains(e.takes, kind) || len(parameters) > 0 {
		return task.RefuseField(task.InvalidRequest, "Content-Type", "the content type is %s; %s", clip(values[0]), want)
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return task.RefuseField(task.InvalidRequest, "Content-Encoding", "the body is encoded as %s; it must be sent as it is", clip(coding))
	}
	return nil
}
