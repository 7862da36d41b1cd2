package dashboard

import (
	"embed"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

//go:embed templates/*.html
var templateFiles embed.FS

// view is the template of a page in one language.
type view = template.Template

// pageNames are the pages; each has a file in templates/.
func pageNames() []string {
	return []string{"overview", "tasks", "task", "preview", "operation", "operations", "failures", "queues", "nodes", "try", "settings", "login", "error"}
}

// parsePages parses the templates of each page in each language.
func parsePages(languages []*language) (map[string]map[string]*view, error) {
	pages := map[string]map[string]*view{}
	for _, l := range languages {
		shared, err := template.New("").Funcs(functions(l)).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
		if err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
		pages[l.Code] = map[string]*view{}
		for _, name := range pageNames() {
			page, err := shared.Clone()
			if err == nil {
				page, err = page.ParseFS(templateFiles, "templates/"+name+".html")
			}
			if err != nil {
				return nil, fmt.Errorf("dashboard: %w", err)
			}
			pages[l.Code][name] = page
		}
	}
	return pages, nil
}

// functions are what templates can call.
func functions(l *language) template.FuncMap {
	return template.FuncMap{
		"t": l.text, "n": func(key string, n any) string { return l.count(key, asInt(n)) },
		"number": func(n any) string { return l.number(asInt(n)) }, "rate": l.rate, "span": l.span, "size": l.size,
		"v": visible, "brief": func(most int, text string) string { return brief(text, most) },
		"state":      func(s any) stateMark { name := fmt.Sprint(s); return stateMark{name, l.text("state." + name)} },
		"icon":       icon,
		"stamp":      func(at time.Time) string { return at.UTC().Format(time.RFC3339) },
		"clock":      func(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05") },
		"ago":        l.ago,
		"short":      shortID,
		"segment":    url.PathEscape,
		"list":       func(items ...any) []any { return items },
		"pair":       func(a, b any) pair { return pair{a, b} },
		"seconds":    func(s float64) string { return l.span(time.Duration(s * float64(time.Second))) },
		"percent":    func(share float64) string { return l.decimal(share*100, 0) + " %" },
		"percent100": func(p float64) string { return l.decimal(p, 0) + " %" },
		"bar":        func(p float64) template.HTML { return meter(p / 100) },
		"limit":      l.limit,
	}
}

type pair struct{ A, B any }

type stateMark struct{ Name, Word string }

func asInt(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

// shortID returns the end of an id, which differs between tasks that were accepted together.
func shortID(id string) string {
	if len(id) > 10 {
		return id[len(id)-8:]
	}
	return id
}

// frame is what every page has around its own data.
type frame struct {
	Root, Assets                string
	Page, Title                 string
	Lang, Theme, NextTheme      string
	Other                       string // the language to switch to
	Cluster, Node, Version, Who string
	CanLogout                   bool
	Keeps                       bool
	Path                        string // of this page, relative to /
	Search                      string
	Notice                      string
	Part                        string // the part of the live stream whose changes change this page; "" if none does
	Reloads                     bool   // without JavaScript, or without the live stream, the browser loads the page again every few seconds
	Alone                       bool   // without navigation
	Now                         time.Time
	Body                        any
}

// complete sets what is the same on every page.
func (f *frame) complete(q *request, page, title string) {
	c := &q.d.config
	f.Root, f.Assets = q.root(), q.root()+"assets/"+q.d.assets.version+"/"
	f.Page, f.Lang, f.Theme, f.Now = page, q.lang.Code, q.theme, q.now
	if f.Title == "" {
		f.Title = q.lang.text(title)
	}
	f.NextTheme = map[string]string{"auto": "dark", "dark": "light", "light": "auto"}[q.theme]
	f.Other = map[string]string{"en": "es", "es": "en"}[q.lang.Code]
	f.Cluster, f.Node, f.Version, f.Who = c.Cluster, c.Node, c.Version, q.who
	f.CanLogout = auth.SessionToken(q.r) != "" && q.in
	f.Keeps = c.Source.Keeps()
	f.Path = q.path()
	if f.Notice == "" {
		f.Notice = q.notice()
	}
	if !q.in {
		f.Alone = true
	}
	if f.Part != "" && !c.Source.SeesAll(q.ctx()) {
		f.Part = ""
	}
}

// notice returns the text about what a form has done, which the address names.
func (q *request) notice() string {
	switch did := q.r.URL.Query().Get("did"); did {
	case "cancelled", "cancelling", "stopping", "retried", "paused", "resumed", "quiet", "revoked":
		return q.lang.text("did." + did)
	}
	return ""
}

// icon returns the drawing of an icon. Each is 18 by 18 and drawn with lines.
func icon(name string) (template.HTML, error) {
	path, ok := icons()[name]
	if !ok {
		return "", fmt.Errorf("there is no icon %s", name)
	}
	return template.HTML(`<svg width="18" height="18" viewBox="0 0 18 18" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">` + path + `</svg>`), nil //nolint:gosec // from the table below
}

func icons() map[string]string {
	return map[string]string{
		"overview": `<path d="M2.5 10.5 6 7l3 3 6-6.5"/><path d="M2.5 14.5h13"/>`,
		"tasks":    `<path d="M6.5 4.5h9M6.5 9h9M6.5 13.5h9M2.7 4.5h.1M2.7 9h.1M2.7 13.5h.1"/>`,
		"failures": `<path d="M9 2.8 16 15H2L9 2.8Z"/><path d="M9 7.5v3.2M9 12.8v.1"/>`,
		"queues":   `<rect x="2.5" y="3" width="13" height="3.2" rx="1"/><rect x="2.5" y="7.5" width="13" height="3.2" rx="1"/><rect x="2.5" y="12" width="8" height="3.2" rx="1"/>`,
		"nodes":    `<rect x="2.5" y="3" width="13" height="5" rx="1.2"/><rect x="2.5" y="10" width="13" height="5" rx="1.2"/><path d="M5.5 5.5h.1M5.5 12.5h.1M8.5 5.5h4M8.5 12.5h4"/>`,
		"try":      `<path d="M3 9h10.5M9.5 4.5 14.5 9l-5 4.5"/>`,
		"settings": `<path d="M3 5.5h6M13 5.5h2M3 12.5h2M9 12.5h6"/><circle cx="11" cy="5.5" r="1.8"/><circle cx="7" cy="12.5" r="1.8"/>`,
		"search":   `<circle cx="8" cy="8" r="4.8"/><path d="m11.8 11.8 3.4 3.4"/>`,
		"auto":     `<circle cx="9" cy="9" r="6"/><path d="M9 3a6 6 0 0 1 0 12Z" fill="currentColor"/>`,
		"dark":     `<path d="M14.8 10.8A6.3 6.3 0 0 1 7.2 3.2a6.3 6.3 0 1 0 7.6 7.6Z"/>`,
		"light":    `<circle cx="9" cy="9" r="3.2"/><path d="M9 1.8v1.5M9 14.7v1.5M1.8 9h1.5M14.7 9h1.5M3.9 3.9 5 5M13 13l1.1 1.1M3.9 14.1 5 13M13 5l1.1-1.1"/>`,
		"leave":    `<path d="M7 3H3.5v12H7M7 9h8M12 6l3 3-3 3"/>`,
		"good":     `<circle cx="9" cy="9" r="6.5"/><path d="m6 9.2 2.1 2.1L12.2 7"/>`,
		"warn":     `<path d="M9 2.8 16 15H2L9 2.8Z"/><path d="M9 7.5v3.2M9 12.8v.1"/>`,
		"bad":      `<circle cx="9" cy="9" r="6.5"/><path d="m6.7 6.7 4.6 4.6M11.3 6.7l-4.6 4.6"/>`,
	}
}

// shape returns the mark of a state, which differs in its form and not only in its colour.
func shape(state task.State) string {
	return map[task.State]string{
		task.Done:      `<circle cx="6" cy="6" r="5.5" fill="currentColor"/><path d="m3.4 6.2 1.8 1.8 3.4-3.8" fill="none" stroke="var(--surface)" stroke-width="1.6"/>`,
		task.Failed:    `<path d="M6 .3 11.7 6 6 11.7.3 6Z" fill="currentColor"/><path d="m4.3 4.3 3.4 3.4M7.7 4.3 4.3 7.7" stroke="var(--surface)" stroke-width="1.5"/>`,
		task.Running:   `<circle cx="6" cy="6" r="5" fill="none" stroke="currentColor" stroke-width="1.5"/><path d="M4.7 3.7 8.6 6 4.7 8.3Z" fill="currentColor"/>`,
		task.Queued:    `<rect x="1" y="1.2" width="10" height="2.3" rx="1" fill="currentColor"/><rect x="1" y="4.9" width="10" height="2.3" rx="1" fill="currentColor"/><rect x="1" y="8.6" width="6" height="2.3" rx="1" fill="currentColor"/>`,
		task.Scheduled: `<circle cx="6" cy="6" r="5" fill="none" stroke="currentColor" stroke-width="1.5"/><path d="M6 3.2V6l1.9 1.3" fill="none" stroke="currentColor" stroke-width="1.4"/>`,
		task.Cancelled: `<circle cx="6" cy="6" r="5" fill="none" stroke="currentColor" stroke-width="1.5"/><path d="M3.6 6h4.8" stroke="currentColor" stroke-width="1.6"/>`,
	}[state]
}

// Shape returns the mark of the state.
func (m stateMark) Shape() template.HTML {
	return template.HTML(`<svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">` + shape(task.State(m.Name)) + `</svg>`) //nolint:gosec // from the table above
}

// IsPage reports whether a link of the navigation leads to this page.
func (f *frame) IsPage(name string) bool {
	return f.Page == name || name == "tasks" && slices.Contains([]string{"task", "preview", "operation", "operations"}, f.Page)
}

// limit writes the value of a limit.
func (l *language) limit(limit task.Limit) string {
	x := limit.Number()
	switch {
	case limit.Unit() == "seconds":
		return l.span(time.Duration(x * float64(time.Second)))
	case limit.Unit() == "bytes":
		return l.size(int64(x))
	}
	return l.number(int64(x))
}
