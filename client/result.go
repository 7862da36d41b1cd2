package client

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Result is the result of an action: one JSON object with "ok" and, if that is true, the
// members that the action adds. It is immutable. The zero Result is empty.
type Result struct {
	raw json.RawMessage
}

// JSON returns the whole object as the server sent it, or nil if the Result is empty. The
// caller must not change it.
func (r Result) JSON() json.RawMessage { return r.raw }

// String returns the whole object as text.
func (r Result) String() string { return string(r.raw) }

// MarshalJSON returns the whole object, or null if the Result is empty.
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

// Decode unmarshals the whole object into v, such as a struct with the members that the
// action adds.
func (r Result) Decode(v any) error {
	if err := json.Unmarshal(r.raw, v); err != nil {
		return fmt.Errorf("decode the result: %w", err)
	}
	return nil
}

// Data unmarshals the object's "data", which is the value that the action returned, into v.
// If there is no "data", v does not change.
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

// ActionError is the error of a task whose action failed, timed out or does not exist: its
// result has "ok":false.
type ActionError struct {
	Action  string
	Message string // the result's "error"
}

// Error returns the action and the message.
func (e *ActionError) Error() string {
	return fmt.Sprintf("action %s: %s", e.Action, e.Message)
}
