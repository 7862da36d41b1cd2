package posta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// decode decodes a payload strictly: it refuses a field that the target does not have.
// Its errors are written for the client that sent the payload.
func decode(payload json.RawMessage, to any) error {
	if len(payload) == 0 { // the function is called without an executor, by a test
		payload = json.RawMessage("null")
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(to)
	if err == nil {
		return nil
	}
	var mistyped *json.UnmarshalTypeError
	if !errors.As(err, &mistyped) {
		return fmt.Errorf("payload: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	where := "payload"
	if mistyped.Field != "" {
		where = fmt.Sprintf("payload: field %q", mistyped.Field)
	}
	return fmt.Errorf("%s must be %s, not %s", where, jsonKind(mistyped.Type), mistyped.Value)
}

// jsonKind says in words of JSON what a Go type is decoded from.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number in the range of " + t.Kind().String()
	}
	return "of type " + t.String()
}
