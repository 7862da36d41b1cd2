package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

func TestEveryPageIsAnsweredInBothLanguages(t *testing.T) {
	s := serve(t, filled(""))
	for _, language := range []string{"en", "es"} {
		for _, path := range paths() {
			got := s.get(path, "Accept-Language", language+";q=0.9")
			want := http.StatusOK
			if path == "/nowhere" {
				want = http.StatusNotFound
			}
			if text := got.Body.String(); got.Code != want || !strings.Contains(text, `<html lang="`+language+`"`) || !strings.HasSuffix(strings.TrimSpace(text), "</html>") {
				t.Errorf("%s in %s: %d\n%.400s", path, language, got.Code, text)
			}
		}
	}
}

func TestThePolicyOfPagesIsStrict(t *testing.T) {
	const want = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; " +
		"frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
	s := serve(t, filled(""))
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script>|javascript:|https?://`)
	for _, path := range paths() {
		got := s.get(path)
		if policy := got.Header().Get("Content-Security-Policy"); policy != want {
			t.Errorf("%s: the policy is %s", path, policy)
		}
		text := strings.ReplaceAll(got.Body.String(), "curl http://localhost/", "")
		text = strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")
		if found := inline.FindString(text); found != "" {
			t.Errorf("%s has %q, which the policy does not allow", path, found)
		}
	}
}

func TestCataloguesHaveTheSameTexts(t *testing.T) {
	languages, err := readLanguages()
	if err != nil {
		t.Fatal(err)
	}
	verbs := regexp.MustCompile(`%[a-z]`)
	en, es := languages[0].texts, languages[1].texts
	for _, key := range sorted(en) {
		switch {
		case es[key] == "":
			t.Errorf("es has no %s", key)
		case !slices.Equal(verbs.FindAllString(en[key], -1), verbs.FindAllString(es[key], -1)):
			t.Errorf("%s has other verbs in es: %q, %q", key, en[key], es[key])
		}
	}
	for _, key := range sorted(es) {
		if en[key] == "" {
			t.Errorf("en has no %s", key)
		}
	}
}

// usedKey matches the keys in templates and in the code.
var usedKey = regexp.MustCompile(`(?:\bt|\bn|\.text\(|\.count\() ?"([a-z_]+(?:\.[a-z0-9_.]+)?)"`)

func TestEveryTextThatIsUsedIsInTheCatalogues(t *testing.T) {
	languages, err := readLanguages()
	if err != nil {
		t.Fatal(err)
	}
	texts, used := languages[0].texts, map[string]bool{}
	files, _ := filepath.Glob("*.go")
	templates, _ := filepath.Glob("templates/*.html")
	for _, name := range slices.Concat(files, templates) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range usedKey.FindAllSubmatch(content, -1) {
			key := string(found[1])
			used[key] = true
			if texts[key] == "" && texts[key+".other"] == "" {
				t.Errorf("%s uses the text %s, which is not in texts/en.json", name, key)
			}
		}
	}
	if len(used) < 150 {
		t.Errorf("only %d keys were found", len(used))
	}
}

func TestTemplatesHaveNoTextsOfTheirOwn(t *testing.T) {
	actions, tags := regexp.MustCompile(`(?s)\{\{.*?\}\}`), regexp.MustCompile(`(?s)<[^>]*>`)
	spoken := regexp.MustCompile(`(?:title|aria-label|placeholder|alt)="([^"]*)"`)
	letters := regexp.MustCompile(`\pL{2,}`)
	names, _ := filepath.Glob("templates/*.html")
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := actions.ReplaceAllString(string(content), " ")
		for _, found := range spoken.FindAllStringSubmatch(text, -1) {
			if letters.MatchString(strings.ReplaceAll(found[1], "UTC", "")) && found[1] != "default" { // the name of a queue
				t.Errorf("%s has the text %q", name, found[1])
			}
		}
		if found := letters.FindAllString(strings.ReplaceAll(tags.ReplaceAllString(text, " "), "UTC", ""), -1); len(found) > 0 {
			t.Errorf("%s has the texts %q", name, found)
		}
	}
}

// hostile are texts that try to become markup or script, to confuse terminals or readers, or to be too large.
func hostile() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, "\x1b[31mred\x1b[0m", "\u202egnp.exe\u2066", "'`{{.}}${1}",
		strings.Repeat("long ", 2000), "\u0000\ufeff\u200b", "</bdi></td></table><h1>", "%s%d%!",
	}
}

func TestHostileTextsAreOnlyTexts(t *testing.T) {
	for i, text := range hostile() {
		s := serve(t, filled(strings.ToValidUTF8(text, "")), func(c *Config) { c.Cluster, c.Node = "c"+text, "n1"+text })
		s.source.answer = text
		pages := paths()
		for _, path := range pages {
			got := s.get(path)
			checkHostile(t, fmt.Sprint(i, " ", path), got)
		}
		checkHostile(t, fmt.Sprint(i, " try"), s.post("/try", url.Values{"op": {"enqueue"}, "action": {text}, "payload": {text}, "queue": {text}, "key": {text}, "delay": {text}}.Encode()))
		checkHostile(t, fmt.Sprint(i, " search"), s.get("/tasks?"+url.Values{"q": {text}}.Encode()))
		checkHostile(t, fmt.Sprint(i, " state"), s.get("/tasks?"+url.Values{"state": {text}}.Encode()))
		checkHostile(t, fmt.Sprint(i, " missing"), s.get("/"+url.PathEscape(text)))
	}
}

// fields matches what can be edited.
var fields = regexp.MustCompile(`(?s)<textarea.*?</textarea>|<input[^>]*>`)

func checkHostile(t *testing.T, name string, got *httptest.ResponseRecorder) {
	t.Helper()
	text := got.Body.String()
	shown := fields.ReplaceAllString(text, "") // a field has the text itself, to be sent again
	for _, bad := range []string{"<script>alert", "<img", "\x1b", "\u202e", "\u2066", "\u0000", "</bdi></td></table><h1>", `href="javascript:`, "%!"} {
		if bad == "%!" && strings.HasPrefix(name, "9 ") {
			continue // the text itself
		}
		if strings.Contains(shown, bad) {
			t.Errorf("%s: the page has %q", name, bad)
		}
	}
	if got.Code >= 500 {
		t.Errorf("%s: %d", name, got.Code)
	}
	if len(text) > 256<<10 {
		t.Errorf("%s: the page has %d bytes", name, len(text))
	}
}

func TestBadRequestsAreAnsweredWithAPage(t *testing.T) {
	s, long := serve(t, filled("")), strings.Repeat("x", 1<<20)
	for path, want := range map[string]int{
		"/tasks?state=nope": 400, "/tasks?cursor=garbage": 400, "/tasks?queue=" + url.QueryEscape("<b>"): 400, "/tasks?q=" + long: 400, "/tasks?action=" + long: 400,
		"/tasks?cursor=" + long: 400, "/tasks?state=" + long: 400, "/?span=" + long: 400, "/tasks/" + long: 404, "/tasks/nope": 404, "/tasks/" + idOf(1): 404,
		"/tasks/" + idOf(1) + "/payload": 404, "/" + long: 404, "/try?from=" + idOf(1): 404, "/assets/x/nope": 404, "/assets/x/..%2fposta.css": 404, "/tasks?q=%ff%fe": 400,
		"/tasks?%zz": 200, "/try?payload=" + long: 200, "/tasks?did=" + long: 200, "/operations/nope": 404,
	} {
		got := s.get(path)
		if got.Code != want || !strings.Contains(got.Body.String(), "</html>") {
			t.Errorf("%.60s: %d, want %d\n%.300s", path, got.Code, want, got.Body)
		}
	}
	for path, want := range map[string]int{
		"/tasks/nope/cancel": 404, "/tasks/preview": 400, "/operations/nope/stop": 303, "/queues/UPPER/pause": 400, "/tasks/change": 400, "/nowhere": 404, "/tasks": 404,
	} {
		if got := s.post(path, "x=1"); got.Code != want && !(path == "/tasks" && got.Code == http.StatusMethodNotAllowed) {
			t.Errorf("POST %s: %d, want %d", path, got.Code, want)
		}
	}
	if got := s.post("/try", "payload="+strings.Repeat("%22", 4<<20)); got.Code != 400 {
		t.Errorf("a form that is too large: %d", got.Code)
	}
}

func TestChangesAreFormsThatLeadBackToTheirPage(t *testing.T) {
	id := idOf(900)
	for path, want := range map[string][2]string{
		"/tasks/" + id + "/cancel":          {"cancel " + id, "/tasks/" + id + "?did=cancelling"},
		"/tasks/" + id + "/retry":           {"retry " + id, "/tasks/" + id + "?did=retried"},
		"/queues/mail/pause":                {"pause mail", "/queues?did=paused"},
		"/queues/mail/resume":               {"resume mail", "/queues?did=resumed"},
		"/workers/w1/quiet":                 {"quiet w1", "/nodes?did=quiet"},
		"/operations/" + idOf(71) + "/stop": {"stop " + idOf(71), "/operations/" + idOf(71) + "?did=stopping"},
	} {
		s := serve(t, filled(""))
		got := s.post(path, "")
		location, err := (&url.URL{Path: path}).Parse(got.Header().Get("Location"))
		if err != nil || got.Code != http.StatusSeeOther || location.String() != want[1] || !slices.Equal(s.source.asked, []string{want[0]}) {
			t.Errorf("%s: %d to %v, asked %q", path, got.Code, location, s.source.asked)
		}
	}
}

func TestPagesOfOtherOriginsCannotChangeAnything(t *testing.T) {
	s := serve(t, filled(""))
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
		if got := s.post("/queues/mail/pause", "", headers...); got.Code != http.StatusForbidden || s.source.asked != nil {
			t.Errorf("%v: %d, asked %q", headers, got.Code, s.source.asked)
		}
	}
	if got := s.post("/queues/mail/pause", "", "Sec-Fetch-Site", "same-origin"); got.Code != http.StatusSeeOther {
		t.Errorf("of the same origin: %d", got.Code)
	}
}

func TestTheLoginKeepsATokenInACookie(t *testing.T) {
	s := serve(t, filled(""), func(c *Config) {
		c.Visitor = Visitor{
			Name:  func(r *http.Request) (string, bool) { return "ana", auth.SessionToken(r) == "secret" },
			Login: func(token string) bool { return token == "secret" },
		}
	})
	got := s.get("/tasks?state=failed")
	if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || to != "./login?back=tasks%3Fstate%3Dfailed" {
		t.Fatalf("without a login: %d to %s", got.Code, to)
	}
	if got := s.get("/login?back=tasks"); got.Code != 200 || strings.Contains(got.Body.String(), "resize") || !strings.Contains(got.Body.String(), `type="password"`) {
		t.Errorf("the login page: %d", got.Code)
	}
	if got := s.post("/login", "token=wrong"); got.Code != http.StatusUnauthorized || len(got.Result().Cookies()) > 0 {
		t.Errorf("a wrong token: %d", got.Code)
	}
	got = s.post("/login", "token=secret&back=tasks%3Fstate%3Dfailed")
	cookies := got.Result().Cookies()
	if got.Code != http.StatusSeeOther || got.Header().Get("Location") != "./tasks?state=failed" || len(cookies) != 1 {
		t.Fatalf("the right token: %d to %s", got.Code, got.Header().Get("Location"))
	}
	if c := cookies[0]; c.Name != "__Host-posta" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
		t.Errorf("the cookie is %v", c)
	}
	in := []string{"Cookie", cookies[0].Name + "=" + cookies[0].Value}
	if got := s.get("/tasks", in...); got.Code != 200 || !strings.Contains(got.Body.String(), "ana") {
		t.Errorf("with the cookie: %d", got.Code)
	}
	if got := s.post("/logout", "", in...); got.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("the logout keeps the cookie")
	}
}

func TestFormsRedirectToPagesOfThisServerOnly(t *testing.T) {
	s := serve(t, filled(""))
	for back, want := range map[string]string{
		"tasks?state=failed": "./tasks?state=failed", "": "./", "//evil.example": "./", "https://evil.example": "./", "/\\evil.example": "./", "\\\\evil.example": "./",
		"javascript:alert(1)": "./", "../../x": "./", "tasks\r\nX: y": "./", "a:b": "./", "/tasks": "./",
	} {
		got := s.post("/preferences", url.Values{"theme": {"dark"}, "back": {back}}.Encode())
		if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || to != want {
			t.Errorf("%q: %d to %q, want %q", back, got.Code, to, want)
		}
	}
}

func TestTheVisitorChoosesLanguageAndTheme(t *testing.T) {
	s := serve(t, filled(""))
	got := s.get("/", "Cookie", "posta-language=es; posta-theme=dark", "Accept-Language", "en")
	if text := got.Body.String(); !strings.Contains(text, `<html lang="es" data-theme="dark">`) || !strings.Contains(text, "Resumen") {
		t.Errorf("chosen: %.200s", text)
	}
	got = s.get("/", "Cookie", "posta-language=xx; posta-theme=pink", "Accept-Language", "fr, es-AR;q=0.8")
	if text := got.Body.String(); !strings.Contains(text, `<html lang="es" data-theme="auto">`) {
		t.Errorf("of the browser: %.200s", text)
	}
}

// link matches the addresses in a page.
var link = regexp.MustCompile(`(?:href|src|action)="([^"#][^"]*)"`)

func TestPagesWorkUnderAPrefix(t *testing.T) {
	s := serve(t, filled(""))
	proxy := http.StripPrefix("/in/here", s)
	for _, path := range paths() {
		at, _ := url.Parse("http://proxy.example/in/here" + path)
		checked := 0
		for _, found := range link.FindAllStringSubmatch(s.get(path).Body.String(), -1) {
			to, err := at.Parse(strings.ReplaceAll(found[1], "&amp;", "&"))
			if err != nil || to.Host != at.Host || !strings.HasPrefix(to.Path, "/in/here/") {
				t.Errorf("%s links to %s", path, found[1])
				continue
			}
			if strings.Contains(found[0], "action=") {
				continue // a form
			}
			checked++
			r := httptest.NewRequest(http.MethodGet, to.String(), nil)
			w := httptest.NewRecorder()
			proxy.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("%s links to %s: %d", path, to, w.Code)
			}
		}
		if checked < 8 {
			t.Errorf("%s has %d links", path, checked)
		}
	}
}

func TestAPartIsSentOnceForEachVersion(t *testing.T) {
	s := serve(t, filled(""))
	got := s.get("/tasks", "Posta-Part", "main")
	tag := got.Header().Get("ETag")
	if text := got.Body.String(); tag == "" || !strings.HasPrefix(text, "<main") || strings.Contains(text, "<html") {
		t.Fatalf("the part: %s %.100s", tag, text)
	}
	if again := s.get("/tasks", "Posta-Part", "main", "If-None-Match", tag); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("again: %d", again.Code)
	}
	s.source.tasks = s.source.tasks[1:]
	if changed := s.get("/tasks", "Posta-Part", "main", "If-None-Match", tag); changed.Code != http.StatusOK {
		t.Errorf("changed: %d", changed.Code)
	}
}

func TestScriptAndStyleAreSmall(t *testing.T) {
	const most = 25 << 10
	size := 0
	for _, name := range []string{"posta.css", "posta.js", "idiomorph.min.js"} {
		content, err := os.ReadFile("assets/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		w.Write(content)
		w.Close()
		size += packed.Len()
	}
	if size > most {
		t.Errorf("script and style have %d bytes compressed, at most %d are allowed", size, most)
	}
}

func TestVendoredFilesAreUnchanged(t *testing.T) {
	for name, want := range map[string]string{
		"assets/idiomorph.min.js": "4cbd535caf7663a51eda9bce6595371c384fc430d54b8d414e29a61167f19f96", "assets/idiomorph.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
	} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has the sum %x", name, sum)
		}
	}
}

func TestAssetsOfTheCurrentVersionAreKept(t *testing.T) {
	s := serve(t, filled(""))
	got := s.get("/assets/" + s.assets.version + "/posta.css")
	if got.Code != 200 || !strings.Contains(got.Header().Get("Cache-Control"), "immutable") || !strings.HasPrefix(got.Header().Get("Content-Type"), "text/css") {
		t.Errorf("%d %v", got.Code, got.Header())
	}
	if got := s.get("/assets/old/posta.js"); got.Code != 200 || got.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("an old version: %d %v", got.Code, got.Header())
	}
	if got := s.get("/favicon.ico"); got.Code != 200 || got.Header().Get("Content-Type") != "image/svg+xml" {
		t.Errorf("the icon: %d", got.Code)
	}
}

func TestARefusalIsShownWithItsReason(t *testing.T) {
	source := filled("")
	source.refusal = task.Refuse(task.Unavailable, "the store does not answer")
	s := serve(t, source)
	for _, path := range []string{"/tasks", "/failures", "/queues", "/nodes", "/tasks/" + idOf(900)} {
		if got := s.get(path); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "the store does not answer") {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
	if got := s.get("/"); got.Code != 200 || !strings.Contains(got.Body.String(), "The store does not answer") {
		t.Errorf("the overview: %d", got.Code)
	}
}

func TestANodeWithoutAStoreHasPages(t *testing.T) {
	source := &fakeSource{answer: `{"id":1,"status":"done"}`}
	s := serve(t, source)
	for path, want := range map[string]int{"/": 200, "/nodes": 200, "/try": 200, "/settings": 200} {
		if got := s.get(path); got.Code != want || strings.Contains(got.Body.String(), "<option value=\"enqueue\"") {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
}

func TestAVisitorWhoSeesNotAllGetsNoCharts(t *testing.T) {
	source := filled("")
	source.narrow, source.nodes, source.workers = true, nil, nil
	s := serve(t, source)
	if text := s.get("/").Body.String(); strings.Contains(text, "<polyline") || strings.Contains(text, "map pad") || strings.Contains(text, "data-part") {
		t.Errorf("the overview is that of the whole system")
	}
	if got := s.get("/live"); got.Code != http.StatusForbidden {
		t.Errorf("the stream: %d", got.Code)
	}
}
