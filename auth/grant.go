package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Verb is what a grant allows to do. The zero Verb is none.
type Verb uint8

// The verbs.
const (
	Run       Verb = iota + 1 // run tasks now
	Enqueue                   // enqueue durable tasks, and upload their payloads
	Work                      // be a worker: receive tasks and answer them
	See                       // read tasks, queues, nodes and workers
	Signal                    // reserved: send a signal to a task
	Cancel                    // cancel tasks
	Retry                     // retry tasks
	Manage                    // pause and resume queues, quiet workers, manage keys
	Mint                      // mint passes
	Audit                     // read who changed what
	everyVerb                 // in a grant: all of them
)

// Verbs returns all verbs, in the order of the documentation.
func Verbs() []Verb {
	return []Verb{Run, Enqueue, Work, See, Signal, Cancel, Retry, Manage, Mint, Audit}
}

// String returns the verb as it is written in a grant.
func (v Verb) String() string {
	names := [...]string{"none", "run", "enqueue", "work", "see", "signal", "cancel", "retry", "manage", "mint", "audit", "*"}
	return names[v]
}

// parseVerb returns the verb with this name; 0 if there is none.
func parseVerb(name string) Verb {
	for v := Run; v <= everyVerb; v++ {
		if v.String() == name {
			return v
		}
	}
	return 0
}

// in reports whether the verb is in a set.
func (v Verb) in(set uint16) bool { return set&(1<<v) != 0 }

const (
	// own in the place of what means the tasks of the client itself.
	own = "own"
	// maxGrantBytes and maxGrants limit the grants of a token, so that they fit a pass and a check stays short.
	maxGrantBytes = 256
	maxGrants     = 64
)

// everything returns the grant of everything.
func everything() Grant { return Grant{verb: everyVerb, action: "*", queue: "*"} }

// Grant allows one verb, or all, on some tasks. Its text is VERB:WHAT, or "*" for everything. WHAT is "*" for everything, "own" for the tasks
// that the client has enqueued itself, or ACTION or ACTION@QUEUE. A name may end with "*", which matches any ending.
type Grant struct {
	verb   Verb
	own    bool
	action string // a pattern; "*" matches every action
	queue  string // a pattern; "*" matches every queue
}

// ParseGrant parses the text of a grant. The error does not contain more than the text's first bytes.
func ParseGrant(text string) (Grant, error) {
	if text == everyVerb.String() {
		return everything(), nil
	}
	name, what, found := strings.Cut(text, ":")
	verb := parseVerb(name)
	switch {
	case len(text) > maxGrantBytes:
		return Grant{}, fmt.Errorf("a grant has %d bytes, at most %d are allowed", len(text), maxGrantBytes)
	case !found:
		return Grant{}, fmt.Errorf("grant %q must be VERB:WHAT, such as run:* or see:own", text)
	case verb == 0:
		return Grant{}, fmt.Errorf("grant %q: unknown verb %q; known are %s", text, name, verbNames())
	}
	g := Grant{verb: verb, queue: "*"}
	if what == own {
		if !g.verb.isOfTasks() {
			return Grant{}, fmt.Errorf("grant %q: %q is for see, signal, cancel and retry, since only a task that exists has an owner", text, own)
		}
		g.own = true
		return g, nil
	}
	queue, hasQueue := "", false
	if g.action, queue, hasQueue = strings.Cut(what, "@"); hasQueue {
		g.queue = queue
	}
	if hasQueue && g.verb == Run {
		return Grant{}, fmt.Errorf("grant %q: a direct run has no queue", text)
	}
	for _, name := range []string{g.action, g.queue} {
		if err := checkPattern(name); err != nil {
			return Grant{}, fmt.Errorf("grant %q: %w", text, err)
		}
	}
	return g, nil
}

// isOfTasks reports whether the verb acts on tasks that exist.
func (v Verb) isOfTasks() bool {
	return v == everyVerb || v == See || v == Signal || v == Cancel || v == Retry
}

// checkPattern checks a name, which may end with "*".
func checkPattern(name string) error {
	if name == "" {
		return fmt.Errorf("a name is empty; * stands for every name")
	}
	if i := strings.IndexByte(name, '*'); i >= 0 && i < len(name)-1 {
		return fmt.Errorf("the name %q has a * that is not its last character", name)
	}
	for _, c := range name {
		if c <= ' ' || c == 0x7f || c == '@' || c == '\ufffd' {
			return fmt.Errorf("the name %q has a space, a control character or a second @", name)
		}
	}
	return nil
}

func verbNames() string {
	var names []string
	for _, v := range Verbs() {
		names = append(names, v.String())
	}
	return strings.Join(append(names, everyVerb.String()), ", ")
}

// String returns the text of the grant.
func (g Grant) String() string {
	switch {
	case g.verb == everyVerb && g.everything():
		return everyVerb.String()
	case g.own:
		return g.verb.String() + ":" + own
	case g.queue == "*":
		return g.verb.String() + ":" + g.action
	}
	return g.verb.String() + ":" + g.action + "@" + g.queue
}

// everything reports whether the grant allows its verb on everything.
func (g Grant) everything() bool { return !g.own && g.action == "*" && g.queue == "*" }

// matches reports whether a pattern matches a name. Only "*" matches an empty name, which stands for every name.
func matches(pattern, name string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	switch {
	case !isPrefix:
		return pattern == name
	case name == "":
		return prefix == ""
	}
	return strings.HasPrefix(name, prefix)
}

// covers reports whether all that another grant allows is allowed by this one.
func (g Grant) covers(other Grant) bool {
	switch {
	case g.verb != everyVerb && g.verb != other.verb:
		return false
	case g.everything():
		return true
	case g.own || other.own:
		return g.own && other.own
	}
	return coversPattern(g.action, other.action) && coversPattern(g.queue, other.queue)
}

// coversPattern reports whether a pattern matches every name that another one matches.
func coversPattern(pattern, other string) bool {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	if !isPrefix {
		return pattern == other
	}
	return strings.HasPrefix(strings.TrimSuffix(other, "*"), prefix)
}

// ParseGrants parses a list of grants, which must not be empty.
func ParseGrants(texts []string) ([]Grant, error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("a token needs at least one grant")
	}
	if len(texts) > maxGrants {
		return nil, fmt.Errorf("a token has %d grants, at most %d are allowed", len(texts), maxGrants)
	}
	grants := make([]Grant, 0, len(texts))
	for _, text := range texts {
		g, err := ParseGrant(text)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// Texts returns the texts of grants.
func Texts(grants []Grant) []string {
	texts := make([]string, 0, len(grants))
	for _, g := range grants {
		texts = append(texts, g.String())
	}
	return texts
}

// Within reports whether all that the grants allow is allowed by others too. If not, it returns the first grant that is
// not. A grant must be within a single one of the others.
func Within(grants, others []Grant) (outside string, ok bool) {
	for _, g := range grants {
		if g.verb == everyVerb { // other verbs may cover it one by one
			for _, v := range Verbs() {
				one := Grant{verb: v, own: g.own, action: g.action, queue: g.queue}
				if one.own && !v.isOfTasks() {
					continue
				}
				if !slices.ContainsFunc(others, func(o Grant) bool { return o.covers(one) }) {
					return g.String(), false
				}
			}
			continue
		}
		if !slices.ContainsFunc(others, func(o Grant) bool { return o.covers(g) }) {
			return g.String(), false
		}
	}
	return "", true
}

// roles are the bundles of grants.
func roles() map[string][]string {
	viewer := []string{"see:*"}
	return map[string][]string{
		"submitter": {"run:*", "enqueue:*", "see:own", "cancel:own"},
		"viewer":    viewer,
		"operator":  append(slices.Clone(viewer), "cancel:*", "retry:*", "manage:*"),
		"worker":    {"work:*"},
		"admin":     {everyVerb.String()},
	}
}

// Roles returns the names of the roles.
func Roles() []string { return slices.Sorted(maps.Keys(roles())) }

// RoleGrants returns the grants of a role.
func RoleGrants(role string) ([]string, error) {
	grants, ok := roles()[role]
	if !ok {
		return nil, fmt.Errorf("unknown role %q; known are %s", role, strings.Join(Roles(), ", "))
	}
	return grants, nil
}
