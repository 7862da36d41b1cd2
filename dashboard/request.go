package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

// request is a request for a page, and its answer.
type request struct {
	d     *Dashboard
	w     http.ResponseWriter
	r     *http.Request
	lang  *language
	theme string
	depth int // how many levels below / its path is
	who   string
	in    bool
	now   time.Time
}

func (d *Dashboard) newRequest(w http.ResponseWriter, r *http.Request, depth int) *request {
	q := &request{d: d, w: w, r: r, lang: d.languageFor(r), theme: themeOf(r), depth: depth, in: true, now: d.config.Now().UTC()}
	if d.config.Visitor.Name != nil {
		q.who, q.in = d.config.Visitor.Name(r)
	}
	return q
}

// ctx returns the context of the request.
func (q *request) ctx() context.Context { return q.r.Context() }

// root returns the way from the path of the request to /. The other pages are relative to it, so that it does not
// matter which prefix a proxy has cut off.
func (q *request) root() string {
	if q.depth == 0 {
		return "./"
	}
	return strings.Repeat("../", q.depth)
}

// path returns the path of the page with its query, without the first slash.
func (q *request) path() string {
	path := strings.TrimPrefix(q.r.URL.EscapedPath(), "/")
	if q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
		return ""
	}
	if q.r.URL.RawQuery != "" {
		path += "?" + q.r.URL.RawQuery
	}
	const most = 2 << 10
	if len(path) > most {
		return ""
	}
	return path
}

// redirect sends the browser to a page, which is relative to /.
func (q *request) redirect(page string) {
	q.w.Header().Set("Location", q.root()+page)
	q.w.WriteHeader(http.StatusSeeOther)
}

// localPage returns a page that a form names if it is one of this server's, otherwise "".
func localPage(page string) string {
	u, err := url.Parse(page)
	ok := err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && !strings.HasPrefix(page, "/") &&
		!strings.ContainsAny(page, "\\\r\n\t\x00") && !strings.Contains(u.Path, "..") && !strings.Contains(u.Path, ":")
	if !ok || len(page) > 2<<10 {
		return ""
	}
	return page
}

// queryOf returns ?name=value, or "" without a value.
func queryOf(pairs ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// form parses the form in the body.
func (q *request) form() *task.Error {
	if err := q.r.ParseForm(); err != nil {
		return task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.form"))
	}
	return nil
}

// value returns a field of the query or the form, if it is UTF-8 and not too long.
func (q *request) value(name string) string { return q.r.FormValue(name) }

// isPart reports whether a page that is shown already asks for its main part.
func (q *request) isPart() bool { return q.r.Header.Get("Posta-Part") == "main" }

// show renders a page; or only its main part, if the page that is shown already asks for that. If it has this
// version already, the answer is 304.
func (q *request) show(status int, page, title string, data *frame) {
	data.complete(q, page, title)
	var out bytes.Buffer
	view := q.d.pages[q.lang.Code][page]
	name, part := "layout", q.isPart()
	if part {
		name = "main"
	}
	if err := view.ExecuteTemplate(&out, name, data); err != nil {
		q.d.config.Logger.Error("a page could not be rendered", "page", page, "error", err)
		http.Error(q.w, q.lang.text("error.internal"), http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(out.Bytes())
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	q.w.Header().Set("ETag", tag)
	q.w.Header().Set("Vary", "Accept-Language, Cookie, Posta-Part")
	if part && status == http.StatusOK && q.r.Header.Get("If-None-Match") == tag {
		q.w.WriteHeader(http.StatusNotModified)
		return
	}
	q.send(status, "text/html; charset=utf-8", out.Bytes())
}

// send sends a whole answer.
func (q *request) send(status int, kind string, body []byte) {
	q.w.Header().Set("Content-Type", kind)
	q.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	q.w.WriteHeader(status)
	_, _ = q.w.Write(body) // a browser that has left needs no page
}

// themeCookie has the theme that the visitor has chosen.
const themeCookie = "posta-theme"

const (
	// choicesLast is how long browsers keep the choices.
	choicesLast = 365 * 24 * time.Hour
	// maxTokenSize is the longest token of the login form; browsers keep cookies of 4 KiB.
	maxTokenSize = 3 << 10
)

func cookieValue(r *http.Request, name string) string {
	cookie, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return cookie.Value
}

func themeOf(r *http.Request) string {
	switch theme := cookieValue(r, themeCookie); theme {
	case "light", "dark":
		return theme
	}
	return "auto"
}

// isPrivate reports whether nobody between the browser and the node can read what they send, as far as the node
// knows. Browsers treat addresses of their own machine like TLS.
func (q *request) isPrivate() bool {
	if q.r.TLS != nil || strings.EqualFold(q.r.Header.Get("X-Forwarded-Proto"), "https") {
		return true
	}
	host := q.r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// setPreferences keeps the language or the theme that the visitor has chosen.
func (d *Dashboard) setPreferences(q *request) *task.Error {
	if refusal := q.form(); refusal != nil {
		return refusal
	}
	for name, cookie := range map[string]string{"language": languageCookie, "theme": themeCookie} {
		value := q.value(name)
		switch value {
		case "en", "es", "light", "dark", "auto":
			http.SetCookie(q.w, &http.Cookie{Name: cookie, Value: value, Path: "/", MaxAge: int(choicesLast.Seconds()),
				HttpOnly: true, Secure: q.isPrivate(), SameSite: http.SameSiteLaxMode})
		}
	}
	q.redirect(localPage(q.value("back")))
	return nil
}

// loginPage shows the form for a token.
func (d *Dashboard) loginPage(q *request) *task.Error {
	if q.in {
		q.redirect(localPage(q.value("back")))
		return nil
	}
	q.show(http.StatusOK, "login", "login.title", &frame{Alone: true, Body: loginBody{Back: localPage(q.value("back")), Plain: !q.isPrivate()}})
	return nil
}

type loginBody struct {
	Back         string
	Wrong, Plain bool
}

// login sets the cookie if the token is known.
func (d *Dashboard) login(q *request) *task.Error {
	if refusal := q.form(); refusal != nil {
		return refusal
	}
	token, back := strings.TrimSpace(q.r.PostFormValue("token")), localPage(q.r.PostFormValue("back"))
	if login := d.config.Visitor.Login; login != nil && token != "" && len(token) <= maxTokenSize && login(token) {
		auth.SetSession(q.w, token)
		q.redirect(back)
		return nil
	}
	q.show(http.StatusUnauthorized, "login", "login.title", &frame{Alone: true, Body: loginBody{Back: back, Wrong: true, Plain: !q.isPrivate()}})
	return nil
}

// logout deletes the cookie.
func (d *Dashboard) logout(q *request) *task.Error {
	auth.EndSession(q.w)
	q.redirect("login")
	return nil
}

// refuse shows a refusal as a page.
func (d *Dashboard) refuse(q *request, refusal *task.Error) {
	status := http.StatusInternalServerError
	switch refusal.Code {
	case task.NotFound:
		status = http.StatusNotFound
	case task.InvalidRequest, task.InvalidJSON, task.UnknownField, task.UnknownOp, task.PayloadTooLarge, task.LineTooLong:
		status = http.StatusBadRequest
	case task.Conflict, task.KeyConflict, task.Stale, task.Quiet:
		status = http.StatusConflict
	case task.Unauthenticated, task.Forbidden:
		status = http.StatusForbidden
	case task.Unavailable, task.Draining, task.Overloaded, task.UnknownOutcome:
		status = http.StatusServiceUnavailable
	}
	detail := refusal.Message
	if refusal.Detail != "" {
		detail += ": " + refusal.Detail
	}
	kind := "error.title"
	if status == http.StatusNotFound {
		kind = "missing.title"
	}
	q.show(status, "error", kind, &frame{Body: errorBody{Status: status, Code: string(refusal.Code), Detail: brief(detail, 2000), Title: kind}})
}

type errorBody struct {
	Status              int
	Code, Detail, Title string
}
