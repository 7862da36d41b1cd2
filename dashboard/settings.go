package dashboard

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// auditRows is how many entries of the audit a page shows.
const auditRows = 50

// settingsBody is the data of the page about the node.
type settingsBody struct {
	Findings []finding
	Parts    Parts
	Limits   []task.Limit
	Actions  []string
	Started  int64

	HasKeys bool   // the node has keys, and the visitor may manage them
	NoKeys  string // why they cannot be shown now
	Keys    []task.AccessKey
	Roles   []string
	Made    *auth.NewKey // the key that was just made, whose secrets are shown once
	Problem string       // why no key was made
	Name    string       // as it was typed
	Grants  string
	Days    string

	HasAudit        bool   // the visitor may read the audit
	NoAudit         string // why it cannot be shown now
	Audit           []task.AuditEntry
	AuditWho        string
	AuditVerb       string
	AuditVerbs      []task.AuditVerb
	AuditNext       string // the query of the next page
	AuditIsFiltered bool
}

// settings shows the parts and the limits of the node, what is wrong, the keys and the audit.
func (d *Dashboard) settings(q *request) *task.Error {
	return d.showSettings(q, settingsBody{})
}

// showSettings completes the data and shows the page.
func (d *Dashboard) showSettings(q *request, b settingsBody) *task.Error {
	limits, source := d.config.Source.Limits(), d.config.Source
	s := d.look(q)
	b.Findings, b.Parts, b.Limits, b.Actions = d.findings(q, s), s.parts, limits.Table(), source.Actions(q.ctx())
	keys, refusal := source.Keys(q.ctx())
	if b.HasKeys, b.NoKeys = showsSection(refusal); b.HasKeys {
		b.Roles, b.Keys = auth.Roles(), keys
	}
	if refusal := d.readAudit(q, &b); refusal != nil {
		return refusal
	}
	q.show(http.StatusOK, "settings", "nav.settings", &frame{Body: b})
	return nil
}

// readAudit reads the entries of the audit that the query selects. It reads none if the visitor may not.
func (d *Dashboard) readAudit(q *request, b *settingsBody) *task.Error {
	asked := q.r.URL.Query()
	query := store.AuditQuery{Who: asked.Get("by"), Verb: task.AuditVerb(asked.Get("verb")), Limit: auditRows}
	query.Before, _ = strconv.ParseInt(asked.Get("before"), 10, 64)
	if refusal := task.CheckText("by", query.Who); refusal != nil {
		return refusal
	}
	if query.Verb != "" && !query.Verb.Known() {
		return task.RefuseField(task.InvalidRequest, "verb", "verb may be one of %v", task.AuditVerbs())
	}
	page, refusal := d.config.Source.Audit(q.ctx(), query)
	b.HasAudit, b.NoAudit = showsSection(refusal)
	b.Audit, b.AuditVerbs = page.Entries, task.AuditVerbs()
	b.AuditWho, b.AuditVerb, b.AuditIsFiltered = query.Who, string(query.Verb), query.Who != "" || query.Verb != ""
	if page.Next != 0 {
		b.AuditNext = queryOf("by", query.Who, "verb", string(query.Verb), "before", strconv.FormatInt(page.Next, 10))
	}
	return nil
}

// showsSection reports whether the page has a section whose data was asked for, and why the data is missing.
func showsSection(refusal *task.Error) (shows bool, problem string) {
	switch {
	case refusal == nil:
		return true, ""
	case refusal.Code == task.Forbidden || refusal.Code == task.NotFound:
		return false, ""
	default:
		return true, refusal.Message
	}
}

// maxKeyDays is the longest life of a key that the form accepts.
const maxKeyDays = 3650

// keyLifetime reads the field about the life of a key. An empty one means that the key has no end.
func keyLifetime(days string) (time.Duration, *task.Error) {
	if days == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 1 || n > maxKeyDays {
		return 0, task.RefuseField(task.InvalidRequest, "days", "days must be an integer from 1 to %d, or empty for a key without an end", maxKeyDays)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

// createKey makes a key and shows it once.
func (d *Dashboard) createKey(q *request) *task.Error {
	if refusal := q.form(); refusal != nil {
		return refusal
	}
	b := settingsBody{Name: q.r.PostFormValue("name"), Grants: q.r.PostFormValue("grants"), Days: strings.TrimSpace(q.r.PostFormValue("days"))}
	grants := strings.Fields(b.Grants)
	if role := q.r.PostFormValue("role"); role != "" {
		list, err := auth.RoleGrants(role)
		if err != nil {
			return task.RefuseField(task.InvalidRequest, "role", "%v", err)
		}
		grants = append(grants, list...)
	}
	var made auth.NewKey
	lifetime, refusal := keyLifetime(b.Days)
	if refusal == nil {
		made, refusal = d.config.Source.CreateKey(q.ctx(), b.Name, grants, lifetime)
	}
	switch {
	case refusal == nil:
		b.Made, b.Name, b.Grants, b.Days = &made, "", "", ""
	case refusal.Code == task.InvalidRequest:
		b.Problem = refusal.Message
	default:
		return refusal
	}
	return d.showSettings(q, b)
}

// revokeKey revokes a key.
func (d *Dashboard) revokeKey(q *request) *task.Error {
	id := q.r.PathValue("id")
	refusal := task.CheckText("id", id)
	if refusal == nil {
		refusal = d.config.Source.RevokeKey(q.ctx(), id)
	}
	if refusal == nil {
		q.redirect("settings?did=revoked")
	}
	return refusal
}
