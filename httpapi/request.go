package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// A request without a body is turned into the line of the protocol that asks for the same, and parsed as one. So
// the rules and the texts of refusals are those of the line protocol.

// member is a key of such a line and its value as raw JSON.
type member struct {
	name    string
	value   []byte
	refusal *task.Error // set if the percent-encoded value cannot be written in a line
}

// textMember returns a member whose value is a string. Bytes that are not UTF-8 are refused, since JSON would
// change them.
func textMember(name, value string) member {
	return member{name, task.AppendString(nil, value), task.CheckText(name, value)}
}

// wordMember returns a member whose value is a number, true or false. Any other value becomes a string, which the field
// refuses.
func wordMember(name, value string) member {
	isNumber := value != "" && (value[0] == '-' || value[0]-'0' < 10) && wire.Valid([]byte(value)) == nil
	if isNumber || value == "true" || value == "false" {
		return member{name: name, value: []byte(value)}
	}
	return textMember(name, value)
}

// lineOf parses and validates the line of an op with these members.
func lineOf(op wire.Op, members ...member) (*wire.Request, *task.Error) {
	line := []byte(`{"op":"` + op.String() + `"`)
	for _, m := range members {
		if m.refusal != nil {
			return nil, m.refusal
		}
		line = append(task.AppendString(append(line, ','), m.name), ':')
		line = append(line, m.value...)
	}
	request := new(wire.Request)
	if refusal := request.Parse(append(line, '}'), op); refusal != nil {
		return nil, refusal
	}
	return request, request.Validate()
}

// checkQuery refuses parameters that the route does not have, and duplicates.
func (e *route) checkQuery(r *http.Request) *task.Error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return task.RefuseField(task.InvalidRequest, "?"+clip(r.URL.RawQuery), "the query cannot be read: %v", err)
	}
	for name, values := range query {
		if !slices.ContainsFunc(e.query, func(p parameter) bool { return p.is(name) }) {
			return task.RefuseField(task.UnknownField, clip(name), "unknown parameter %s; %s %s has %s",
				clip(name), e.method, e.path, e.parameters())
		}
		if len(values) > 1 || !utf8.ValidString(name) || !utf8.ValidString(values[0]) {
			field, _, _ := strings.Cut(name, ".") // meta, of meta.k
			return task.RefuseField(task.InvalidRequest, clip(field), "the parameter %s must come once, as UTF-8", clip(name))
		}
	}
	return nil
}

// parameters has the parameters of the route.
func (e *route) parameters() string {
	if len(e.query) == 0 {
		return "none"
	}
	var names []string
	for _, p := range e.query {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

// parameter is a parameter of a query.
type parameter struct {
	name, kind, about string // kind is string, integer, number or boolean; a name that ends with .k stands for any label
}

// is reports whether the parameter has this name.
func (p parameter) is(name string) bool {
	if prefix, ok := strings.CutSuffix(p.name, ".k"); ok {
		return strings.HasPrefix(name, prefix+".")
	}
	return p.name == name
}

// queryMembers converts the parameters with these names to members. meta has all labels.
func queryMembers(query url.Values, names ...string) []member {
	var members []member
	for _, name := range names {
		switch {
		case name == "meta":
			members = append(members, labelMembers(query)...)
		case !query.Has(name):
		case name == "limit" || name == "payload" || name == "after":
			members = append(members, wordMember(name, query.Get(name)))
		case name == "since" || name == "until":
			members = append(members, textMember(name, timeParameter(query, name)))
		default:
			members = append(members, textMember(name, query.Get(name)))
		}
	}
	return members
}

// timeParameter returns a time. An unescaped + in it arrives as a space.
func timeParameter(query url.Values, name string) string {
	return strings.ReplaceAll(query.Get(name), " ", "+")
}

// labelMembers converts the parameters meta.k=v to the member meta, if there are any.
func labelMembers(query url.Values) []member {
	var object []byte
	for name, values := range query {
		label, isLabel := strings.CutPrefix(name, "meta.")
		if !isLabel {
			continue
		}
		object = append(task.AppendString(append(object, ','), label), ':')
		object = task.AppendString(object, values[0])
	}
	if object == nil {
		return nil
	}
	object[0] = '{'
	return []member{{name: "meta", value: append(object, '}')}}
}

// readRequest parses a body that is a line of the op.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request, counted *account, op wire.Op) (*wire.Request, *task.Error) {
	body, refusal := s.readBody(w, r, counted)
	if refusal != nil {
		return nil, refusal
	}
	request := new(wire.Request)
	return request, parseAs(request, body, op)
}

// parseAs parses a line that must have a certain op.
func parseAs(request *wire.Request, line []byte, op wire.Op) *task.Error {
	if refusal := request.Parse(line, op); refusal != nil {
		return refusal
	}
	if request.Op != op {
		return task.RefuseField(task.InvalidRequest, "op", "op is %s, but this route is for %s; leave op out", request.Op, op)
	}
	return request.Validate()
}

// noBody refuses a body if the route has no use for one.
func noBody(r *http.Request) *task.Error {
	if r.ContentLength > 0 {
		return task.Refuse(task.InvalidRequest, "%s %s takes no body", r.Method, clip(r.URL.Path))
	}
	return nil
}
