package auth

import (
	"cmp"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Anonymous is the name of all clients when there are no tokens.
const Anonymous = "anonymous"

// Identity is an authenticated client, and what it may do. It does not change after it was made, so it may be shared. Nil
// is an unknown client, which may do nothing.
type Identity struct {
	// Name is for people and logs: that of the token file, of the key, or in the certificate. The token must not be logged.
	Name string
	// Subject is the owner of the tasks that the client enqueues; "" for a client without a token.
	Subject string
	// Key is the id of the key that was presented, or that a pass was signed with; "": another kind of token.
	Key string
	// Expires is when the token ends; the zero time means never.
	Expires time.Time

	grants []Grant
	within []Grant // what the grants are limited to; nil: they are not
	all    uint16  // the verbs that are allowed on everything, a bit each
}

// NewIdentity returns an identity with these grants. If within is not nil, it may do only what both allow.
func NewIdentity(id Identity, grants, within []Grant) *Identity {
	id.grants, id.within = grants, within
	id.all = 0
	for _, v := range Verbs() {
		if hasAll(grants, v) && (within == nil || hasAll(within, v)) {
			id.all |= 1 << v
		}
	}
	return &id
}

func hasAll(grants []Grant, verb Verb) bool {
	for _, g := range grants {
		if (g.verb == verb || g.verb == everyVerb) && g.everything() {
			return true
		}
	}
	return false
}

// Open returns the identity of a client when there is no authentication: it may do everything.
func Open() *Identity { return NewIdentity(Identity{Name: Anonymous}, []Grant{everything()}, nil) }

// Scopes returns the texts of the grants. For an identity that may do everything it is the one text "all".
func (i *Identity) Scopes() []string {
	if i.isAdmin() {
		return []string{"all"}
	}
	return Texts(i.grants)
}

// isAdmin reports whether the identity may do everything.
func (i *Identity) isAdmin() bool {
	return !slices.ContainsFunc(Verbs(), func(v Verb) bool { return !v.in(i.all) })
}

// Delegates reports whether a token with these grants can do no more than this identity. If not, it returns a grant that
// the identity does not have.
func (i *Identity) Delegates(grants []Grant) (outside string, ok bool) {
	if outside, ok = Within(grants, i.grants); ok && i.within != nil {
		return Within(grants, i.within)
	}
	return outside, ok
}

// Holder identifies the client for leases: an outcome is taken only from the holder of the lease. Two connections with the
// same key and subject are the same holder.
func (i *Identity) Holder() string {
	if i.Key == "" {
		return cmp.Or(i.Subject, i.Name)
	}
	return "key:" + i.Key + "/" + i.Subject
}

// Author returns the client as the audit names it.
func (i *Identity) Author() task.Author {
	switch {
	case i == nil:
		return task.Author{}
	case i.isPass():
		return task.Author{Who: i.Subject, Key: i.Key}
	case i.Key != "":
		return task.Author{Who: i.Subject, Name: i.Name}
	}
	return task.Author{Who: i.Subject}
}

// All reports whether the identity may do a verb on everything, so that no single check is needed.
func (i *Identity) All(verb Verb) bool { return i != nil && verb.in(i.all) }

// Resource is what a verb acts on. An empty field stands for every value of it: a zero Resource is the whole system.
type Resource struct {
	Action string
	Queue  string // of a direct run: empty, as it has none
	Owner  string // of a task that exists
}

// OfTask returns a task as a resource.
func OfTask(t *task.Task) Resource { return Resource{Action: t.Action, Queue: t.Queue, Owner: t.Owner} }

// Authorize decides whether an identity may do a verb on a resource. It is the only place that decides. What no grant
// allows is denied.
func Authorize(who *Identity, verb Verb, on Resource) bool {
	if who == nil {
		return false
	}
	return verb.in(who.all) || who.allows(who.grants, verb, on) && (who.within == nil || who.allows(who.within, verb, on))
}

// allows reports whether one of the grants allows a verb on a resource.
func (i *Identity) allows(grants []Grant, verb Verb, on Resource) bool {
	for _, g := range grants {
		switch {
		case g.verb != verb && g.verb != everyVerb:
		case g.own:
			if verb.isOfTasks() && i.Subject != "" && on.Owner == i.Subject {
				return true
			}
		case matches(g.action, on.Action) && matches(g.queue, on.Queue):
			return true
		}
	}
	return false
}

// Any reports whether the identity may do a verb on anything at all.
func Any(who *Identity, verb Verb) bool {
	has := func(grants []Grant) bool {
		for _, g := range grants {
			if g.verb == verb || g.verb == everyVerb && (!g.own || verb.isOfTasks()) {
				return true
			}
		}
		return false
	}
	return who != nil && has(who.grants) && (who.within == nil || has(who.within))
}

// Knows reports whether a grant of the identity is about an action, in any queue. It says no more than that the name may
// be shown.
func Knows(who *Identity, action string) bool {
	has := func(grants []Grant) bool {
		for _, g := range grants {
			if !g.own && matches(g.action, action) {
				return true
			}
		}
		return false
	}
	return who != nil && has(who.grants) && (who.within == nil || has(who.within))
}

// OnlyOwn reports whether the identity may do a verb on nothing but its own tasks, and returns their owner.
func (i *Identity) OnlyOwn(verb Verb) (owner string, ok bool) {
	only := func(grants []Grant) bool {
		for _, g := range grants {
			if (g.verb == verb || g.verb == everyVerb) && !g.own {
				return false
			}
		}
		return true
	}
	if i.Subject == "" || !only(i.grants) && (i.within == nil || !only(i.within)) {
		return "", false
	}
	return i.Subject, true
}
