package httpapi

import (
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

// checkSender refuses what a web page elsewhere could make a visitor's browser
// send. Loopback is open to programs of this machine, and a browser is one.
func (s *Server) checkSender(r *http.Request, health bool) *task.Error {
	if err := s.checkHost(r, health); err != nil {
		return err
	}
	return s.checkOrigin(r)
}

// checkHost refuses a name that is not ours. A page under a name of its own could
// point that name to 127.0.0.1 and would then be of the same origin as we are (DNS
// rebinding); the Host header still tells the name. The health routes are answered under
// any name: a balancer's checks send the public name, the node's address, or none.
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

// hasSuffix reports whether the name is below one of the allowed suffixes, or is one without its dot.
func (s *Server) hasSuffix(name string) bool {
	return slices.ContainsFunc(s.suffixes, func(suffix string) bool { return strings.HasSuffix("."+name, suffix) })
}

// isOurs reports whether the address is of this machine alone, is one of the
// allowed, or is the one that the connection came to.
func (s *Server) isOurs(r *http.Request, ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || s.hosts[ip.String()] {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == ip
}

// hostName returns the name or address of a Host header without its port, in lower
// case, without the brackets of IPv6 and the dot of the root.
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

// checkOrigin refuses what a browser sends for a page of another origin. There are
// no CORS headers either, so such a page can read nothing. Following a link
// to a page of ours is allowed: the other page does not see what comes.
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

// checkToken checks the bearer token if the node has a token file, and returns its owner. Without a file it returns the
// owner of the client's certificate, or nil. If later is true, a token may come on the connection itself: without one
// checkToken returns nil.
func (s *Server) checkToken(w http.ResponseWriter, r *http.Request, later bool) (*auth.Identity, *task.Error) {
	values := r.Header.Values("Authorization")
	if s.config.Tokens == nil {
		return connectionOf(r).identity(), nil
	}
	if later && len(values) == 0 {
		return nil, nil
	}
	challenge, message := `Bearer realm="posta"`, "this node asks for a token: send the header Authorization: Bearer TOKEN"
	if len(values) == 1 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			if identity, ok := s.config.Tokens.Check([]byte(strings.TrimSpace(token))); ok {
				s.known(w, r)
				return &identity, nil
			}
			challenge, message = challenge+`, error="invalid_token"`, "the token is not known to this node"
		}
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Connection", "close") // as on lines: another try costs another connection
	return nil, task.Refuse(task.Unauthenticated, "%s", message)
}

// known records that the client of a request has authenticated: its connection is kept, and its body has the usual time.
func (s *Server) known(w http.ResponseWriter, r *http.Request) {
	conn := connectionOf(r)
	conn.know()
	if !s.draining.Load() && !conn.isStranger() && !conn.didHide(r) {
		w.Header().Del("Connection")
	}
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.limits.LineTimeout))
	}
}

// contentType returns the type of the body without its parameters.
func contentType(r *http.Request) string {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind
}

// checkType requires one of the types that the route takes. A form on another site's page cannot send them without a
// preflight. A charset is ignored: JSON is UTF-8.
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
