package wire

import (
	"bytes"
	"math/bits"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Request is one parsed line. Its slices alias the line, so it is valid as long as the buffer of the line. To use
// one Request for many lines saves allocations. It is not safe for concurrent use.
type Request struct {
	ID      []byte // raw JSON of the id; nil when absent or unusable
	Op      Op
	Action  []byte // the action's name, without escapes
	Payload []byte // raw JSON of the payload; nil when absent
	Timeout time.Duration
	Token   []byte // the token of op auth
	// PassedOn is why another node has passed a run on to this one; "": it comes from a client.
	PassedOn task.PassedOn
	Options  Options
	Work     Work // of the ops of workers

	given   uint64 // one bit a field that the line has
	unknown []byte // the first key that is no field of any op
	values  [fieldCount]span
	scan    scanner
}

// span is a part of the line.
type span struct{ start, end uint32 }

// Options are the fields of the durable ops. A span that the line gives as 0 is task.Zero; one that it does not
// have is 0.
type Options struct {
	Queue       string
	Priority    string
	Delay       time.Duration
	RunAt       time.Time
	Expires     time.Duration
	MaxAttempts int
	Backoff     time.Duration
	BackoffMax  time.Duration
	Key         string
	Keep        time.Duration
	KeepFailed  time.Duration
	Meta        []byte // raw JSON object of string labels
	PayloadBlob []byte // raw JSON
	Wait        bool
	Task        string
	After       int
	WithPayload bool
	Filter      []byte // raw JSON object
	Run         []byte // raw JSON: the id of the run that is cancelled
	Status      string
	Since       time.Time
	Until       time.Time
	Limit       int
	Cursor      string
	Owner       string
}

// Parse checks that a line, given without its line ending, is a strict JSON object with a usable id and a known op.
// fallback is the op of a line without one. If Parse refuses the line, r.ID is set when the line has a usable id.
// Parse does not check the other fields; a door can therefore ask for a token before it calls Validate.
func (r *Request) Parse(line []byte, fallback Op) *task.Error {
	r.ID, r.Op, r.given, r.unknown = nil, fallback, 0, nil
	r.Action, r.Payload, r.Token, r.Timeout, r.PassedOn = nil, nil, nil, 0, ""
	s := &r.scan
	s.reset(line)
	s.space()
	isObject := s.pos < len(line) && line[s.pos] == '{'
	valid := false
	if isObject {
		valid = r.envelope() && s.end()
	} else {
		valid = s.value(0) && s.end()
	}
	if !valid {
		r.given = 0
		return &task.Error{Code: task.InvalidJSON, Message: "invalid json", Detail: s.failure().Error()}
	}
	if !isObject {
		return task.Refuse(task.InvalidRequest, "the line must be a JSON object, such as {\"action\":\"echo\"}")
	}
	if err := r.readID(); err != nil {
		return err
	}
	return r.readOp()
}

// envelope reads the outermost object and records where the value of each known field is.
func (r *Request) envelope() bool {
	s := &r.scan
	start := s.pos
	more, ok := r.beginning()
	unknown := 0 // unknown keys; they stay at the bottom of s.keys
	for ok && more {
		var k objectKey
		if k, ok = s.key(); !ok {
			return false
		}
		name := s.name(k)
		f := fieldNamed(name)
		if f == noField {
			if unknown == 0 {
				r.unknown = name
			}
			unknown++
			s.keep(k)
		} else if r.has(f) {
			return s.fail(start, "duplicate key in the object")
		}
		if !r.readValue(f) {
			return false
		}
		more, ok = s.next('}', "',' or '}' expected")
	}
	if ok && s.keptTwice() {
		return s.fail(start, "duplicate key in the object")
	}
	return ok
}

// beginning reads up to the first key that is not in its usual place, and reports whether there is one.
func (r *Request) beginning() (more, ok bool) {
	s := &r.scan
	members, ok := r.usual()
	if !ok {
		return false, false
	}
	if members > 0 {
		return s.next('}', "',' or '}' expected")
	}
	s.pos++
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == '}' {
		s.pos++
		return false, true
	}
	return true, true
}

// usual reads the members with which most clients begin a line, {"id":…,"action":"…","payload":…, as long as the
// line has them in this order and without spaces. This skips the search for their keys, about a third of the time
// of a parse. It returns the number of members that it has read.
func (r *Request) usual() (members int, ok bool) {
	s := &r.scan
	for _, part := range usualParts {
		if rest := s.data[s.pos:]; len(rest) < len(part.key) || string(rest[:len(part.key)]) != part.key {
			break
		}
		s.pos += len(part.key)
		s.space()
		if !r.readValue(part.field) {
			return 0, false
		}
		members++
	}
	return members, true
}

var usualParts = [...]struct {
	key   string
	field field
}{{`{"id":`, fieldID}, {`,"action":`, fieldAction}, {`,"payload":`, fieldPayload}}

// readValue reads the value of a field and records where it is.
func (r *Request) readValue(f field) bool {
	s := &r.scan
	from := s.pos
	if !s.value(1) {
		return false
	}
	r.given |= 1 << f
	r.values[f] = span{uint32(from), uint32(s.pos)}
	return true
}

// has reports whether the line has the field.
func (r *Request) has(f field) bool { return r.given&(1<<f) != 0 }

// raw returns the value of a field that the line has, as the client sent it.
func (r *Request) raw(f field) []byte {
	v := r.values[f]
	return r.scan.data[v.start:v.end]
}

// readID checks the id and sets r.ID to it, as the client sent it.
func (r *Request) readID() *task.Error {
	if !r.has(fieldID) {
		return nil
	}
	raw := r.raw(fieldID)
	switch {
	case raw[0] == '"' && len(raw)-2 > task.MaxID:
		return task.RefuseField(task.InvalidRequest, "id", "id is a string of %d bytes, at most %d are allowed", len(raw)-2, task.MaxID)
	case raw[0] == '"' || raw[0] == 'n':
	case raw[0] != '-' && raw[0]-'0' > 9:
		return task.RefuseField(task.InvalidRequest, "id", "id must be a string, a number or null")
	case len(raw) > task.MaxNumberID:
		return task.RefuseField(task.InvalidRequest, "id", "id is a number of %d bytes, at most %d are allowed", len(raw), task.MaxNumberID)
	}
	r.ID = raw
	return nil
}

// readOp sets r.Op.
func (r *Request) readOp() *task.Error {
	if !r.has(fieldOp) {
		return nil
	}
	raw := r.raw(fieldOp)
	if raw[0] != '"' {
		return task.RefuseField(task.InvalidRequest, "op", "op must be a string")
	}
	name := unescape(raw)
	op, ok := ParseOp(name)
	if !ok {
		return task.RefuseField(task.UnknownOp, "op", "unknown op %s; known are %s", clip(name), opNames())
	}
	r.Op = op
	return nil
}

// Validate checks that the op knows each field of the line, and that the values have the right type and are within
// their limits. It returns the first failure. It sets the fields that Parse left empty.
func (r *Request) Validate() *task.Error {
	allowed := opFields[r.Op]
	if r.given&^allowed != 0 {
		return r.unknownField(allowed)
	}
	rest := r.given &^ (1<<fieldID | 1<<fieldOp)
	if r.Op.IsOfWorker() {
		r.Work = Work{Retry: true, Slots: 1, Grace: DefaultGrace, Wait: defaultPoll, LeaseTime: defaultLease}
		r.Options.Delay = 0
	} else if r.Op != OpRun { // op run has no options; for others, those of the line before must be cleared
		r.Options = Options{}
	}
	if missing := opRequires[r.Op] &^ r.given; missing != 0 {
		name := firstField(missing)
		return task.RefuseField(task.InvalidRequest, name, "%s is missing; op %s needs it", name, r.Op)
	}
	for ; rest != 0; rest &= rest - 1 {
		f := field(bits.TrailingZeros64(rest))
		if err := fieldReaders[f](r, r.raw(f)); err != nil {
			return err
		}
	}
	return r.checkTogether()
}

// unknownField returns the refusal of the first key that the op does not have.
func (r *Request) unknownField(allowed uint64) *task.Error {
	name := r.unknown
	if name == nil {
		name = []byte(firstField(r.given &^ allowed))
	}
	shown := clip(name)
	if shown == "" {
		shown = `""`
	}
	return task.RefuseField(task.UnknownField, clip(name), "unknown field %s; op %s has %s", shown, r.Op, fieldNames(allowed&^nodeFields))
}

// clip shortens text of a client for an error message.
func clip(text []byte) string {
	const most = 64
	if len(text) > most {
		return string(bytes.ToValidUTF8(text[:most], nil)) + "…"
	}
	return string(text)
}
