package client

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Result is what an action answered: one JSON object with "ok" and, when that is
// true, whatever members the action has. It is immutable, and the zero Result is empty.
type Result struct {
	raw json.RawMessage
}

// JSON gives the whole object as the server sent it, nil of an empty Result. It must
// not be changed.
func (r Result) JSON() json.RawMessage { return r.raw }

// String gives the whole object as text.
func (r Result) String() string { return string(r.raw) }

// MarshalJSON gives the whole object, null of an empty Result.
func (r Result) MarshalJSON() ([]byte, error) {
	if r.raw == nil {
		return []byte("null"), nil
	}
	return r.raw, nil
}

// UnmarshalJSON keeps the whole object.
func (r *Result) UnmarshalJSON(object []byte) error {
	r.raw = bytes.Clone(object)
	return nil
}

// Decode reads the whole object into v, as json.Unmarshal does: into a struct with the
// members that the action has, such as "slept".
func (r Result) Decode(v any) error {
	if err := json.Unmarshal(r.raw, v); err != nil {
		return fmt.Errorf("decode the result: %w", err)
	}
	return nil
}

// Data reads the object's "data" into v: what an action's function returned. An
// object without it leaves v as it is.
func (r Result) Data(v any) error {
	var object struct {
		Data json.RawMessage `json:"data"`
	}
	if err := r.Decode(&object); err != nil || object.Data == nil {
		return err
	}
	if err := json.Unmarshal(object.Data, v); err != nil {
		return fmt.Errorf("decode the result's data: %w", err)
	}
	return nil
}

// ActionError says that a task was taken, and that its action failed, took too long or
// does not exist: the result says "ok":false.
type ActionError struct {
	Action  string
	Message string // the result's "error"
}

// Error gives the action and the message.
func (e *ActionError) Error() string {
	return fmt.Sprintf("action %s: %s", e.Action, e.Message)
}
