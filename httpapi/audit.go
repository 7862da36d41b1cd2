package httpapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// The sizes of a page of the audit.
const (
	maxAuditPage     = 200
	defaultAuditPage = 50
)

func auditRoutes() []route {
	var verbs []string
	for _, verb := range task.AuditVerbs() {
		verbs = append(verbs, string(verb))
	}
	return []route{{
		method: "GET", path: "/v1/audit", access: auditor, handle: (*Server).audit, store: true, about: "show who made which change, newest first",
		query: []parameter{
			{"who", "string", "made by this client, as the owner of its tasks"}, {"verb", "string", "one of " + strings.Join(verbs, ", ")},
			{"since", "string", "made at this time or later, in RFC 3339 form"}, {"until", "string", "made at this time or before"},
			{"limit", "integer", "1 to 200, else 50"}, {"cursor", "string", "of the previous page"},
		},
		answers: []reply{{200, jsonType, "AuditList", "a page; without a cursor it is the last"}},
	}}
}

// audit lists who made which change.
//
//	→ GET /v1/audit?verb=cancel&since=2026-01-31T08:00:00Z
//	← 200 {"ok":true,"entries":[{"seq":7,"at":"…","who":"token:ana","verb":"cancel","what":"01J…","count":1}],"cursor":"7"}
func (s *Server) audit(w http.ResponseWriter, r *http.Request) *task.Error {
	query, refusal := auditQuery(r.URL.Query())
	if refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.reply(); refusal != nil {
		return refusal
	}
	page, refusal := s.service.Audit(r.Context(), identityOf(r), query)
	if refusal != nil {
		return refusal
	}
	answer := struct {
		OK      bool              `json:"ok"`
		Entries []task.AuditEntry `json:"entries"`
		Cursor  string            `json:"cursor,omitempty"`
	}{OK: true, Entries: append([]task.AuditEntry{}, page.Entries...)}
	if page.Next != 0 {
		answer.Cursor = strconv.FormatInt(page.Next, 10)
	}
	return s.encode(w, answer)
}

// auditQuery reads the query of a page of the audit.
func auditQuery(asked url.Values) (query durable.AuditQuery, refusal *task.Error) {
	query = durable.AuditQuery{Who: asked.Get("who"), Verb: task.AuditVerb(asked.Get("verb")), Limit: defaultAuditPage}
	if len(query.Who) > task.MaxOwner {
		return query, task.RefuseField(task.InvalidRequest, "who", "who has %d bytes, at most %d are allowed", len(query.Who), task.MaxOwner)
	}
	if refusal := task.CheckText("who", query.Who); refusal != nil {
		return query, refusal
	}
	if asked.Has("verb") && !query.Verb.Known() {
		return query, task.RefuseField(task.InvalidRequest, "verb", "verb is %s; it may be one of %v", clip(string(query.Verb)), task.AuditVerbs())
	}
	for name, into := range map[string]*time.Time{"since": &query.Since, "until": &query.Until} {
		if asked.Has(name) {
			at, err := task.ParseTime(timeParameter(asked, name))
			if err != nil {
				return query, task.RefuseField(task.InvalidRequest, name, "%s must be %v", name, err)
			}
			*into = at
		}
	}
	if asked.Has("limit") {
		n, err := strconv.Atoi(asked.Get("limit"))
		if err != nil || n < 1 || n > maxAuditPage {
			return query, task.RefuseField(task.InvalidRequest, "limit", "limit must be an integer from 1 to %d", maxAuditPage)
		}
		query.Limit = n
	}
	if asked.Has("cursor") {
		n, err := strconv.ParseInt(asked.Get("cursor"), 10, 64)
		if err != nil || n < 1 {
			return query, task.RefuseField(task.InvalidRequest, "cursor", "cursor must be that of the page before")
		}
		query.Before = n
	}
	return query, nil
}
