package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

// goodFields returns for each field values that are allowed, the bounds among them.
func goodFields() map[string][]string {
	return map[string][]string{
		"action":  {`"a"`, `"ñ"`, `"` + strings.Repeat("a", 128) + `"`, `"\u0061"`, `"\u202e"`},
		"payload": {`null`, `0`, `""`, `[]`, `{"a":{}}`, `12345678901234567890`, `1e400`, ` 1`},
		"timeout": {`1`, `0.001`, `1e-9`, `3600`, `3.6e3`, `3600.0`, `2.50`, `60e0`, `86400`},
		"queue":   {`"default"`, `"a"`, `"a.b_c-9"`, `"..."`, `"` + strings.Repeat("q", 64) + `"`},
		"delay":   {`0`, `0.5`, `-0`, `31622400`},
		"run_at": {`"2026-01-31T08:00:00Z"`, `"2026-01-31T08:00:00.123456789+02:00"`, `"1999-12-31T23:59:59-11:30"`, `"2026-01-31t08:00:00.5z"`,
			`"2016-12-31T23:59:60Z"`, `"9999-12-31T23:59:59Z"`, `"0001-01-01T00:00:00Z"`},
		"expires":      {`0.5`, `31622400`},
		"priority":     {`"high"`, `"normal"`, `"low"`, `"\u006cow"`},
		"max_attempts": {`1`, `5`, `1000`},
		"key":          {`"k"`, `" "`, `"` + strings.Repeat("k", 256) + `"`, `"\n"`},
		"keep":         {`0`, `86400`, `31622400`},
		"keep_failed":  {`0`, `604800`, `31622400`},
		"backoff":      {`0`, `0.01`, `86400`},
		"backoff_max":  {`0`, `3600`, `86400`},
		"meta":         {`{}`, `{ }`, `{"a":"b"}`, `{ "a" : "b" , "c" : "" }`, `{"":"x","\u0061":"\n"}`},
		"wait":         {`true`, `false`},
		"payload_blob": {`{}`, `{"size":1}`},
	}
}

func badFields() map[string][]string {
	return map[string][]string{
		"action":  {`null`, `1`, `true`, `[]`, `{}`, `""`, `"` + strings.Repeat("a", 129) + `"`, `"` + strings.Repeat("é", 64) + `x"`, `"\u0000"`, `"a\nb"`, `"\u001b[2J"`, `"\u009b"`, `"\u007f"`},
		"timeout": {`null`, `0`, `-0`, `0.0`, `-1`, `86400.001`, `86401`, `1e300`, `1e400`, `"1"`, `true`, `[]`, `{}`, `0e9`},
		"queue":   {`null`, `1`, `""`, `"A"`, `"a b"`, `"ñ"`, `"a/b"`, `"*"`, `"a\n"`, `"."`, `".."`, `"q\u0000"`, `"` + strings.Repeat("q", 65) + `"`},
		"delay":   {`null`, `-1`, `-0.001`, `31622401`, `1e400`, `"1"`, `true`, `[]`},
		"run_at": {`null`, `1`, `""`, `"now"`, `"2026-01-31"`, `"2026-01-31T08:00:00"`, `"2026-02-30T08:00:00Z"`, `"2026-01-31 08:00:00Z"`,
			`"9999-12-31T23:59:59-12:00"`, `"0001-01-01T00:00:00+12:00"`, `"2026-01-31T08:00:00+24:00"`, `"2026-01-31T08:00:00,5Z"`},
		"backoff":      {`null`, `-1`, `86401`, `"1"`, `true`},
		"backoff_max":  {`null`, `-1`, `86401`, `"1"`},
		"keep_failed":  {`null`, `-1`, `31622401`, `"1"`},
		"expires":      {`null`, `0`, `-0`, `-1`, `31622401`, `"1"`},
		"priority":     {`null`, `1`, `""`, `"High"`, `"urgent"`, `["high"]`},
		"max_attempts": {`null`, `0`, `-1`, `1001`, `1.0`, `1e1`, `"5"`, `99999999999999999999`},
		"key":          {`null`, `1`, `""`, `"` + strings.Repeat("k", 257) + `"`, `"k\u0000y"`},
		"keep":         {`null`, `-1`, `31622401`, `"1"`},
		"meta":         {`null`, `[]`, `"a"`, `{"a":1}`, `{"a":"b","c":null}`, `{"a":{"b":"c"}}`, `{"a":["b"]}`, `{ "a" : true }`, `{"a":"\u0000"}`, `{"a":"b","\u0000":"c"}`, `{"a":"` + strings.Repeat("x", task.MaxMeta) + `"}`},
		"wait":         {`null`, `0`, `1`, `"true"`, `[]`},
		"payload_blob": {`null`, `"x"`, `[]`, `1`},
	}
}

func TestTheValuesOfEnqueueAreTakenUpToTheirBounds(t *testing.T) {
	t.Parallel()
	for field, values := range goodFields() {
		for _, value := range values {
			if _, err := read(enqueueWith(field, value)); err != nil {
				t.Errorf("%s: %s: %v", field, value, err)
			}
		}
	}
}

func TestTheValuesOfEnqueueAreRefusedBeyondTheirBoundsByName(t *testing.T) {
	t.Parallel()
	for field, values := range badFields() {
		for _, value := range values {
			_, err := read(enqueueWith(field, value))
			if err == nil || err.Code != task.InvalidRequest || err.Field != field || !strings.Contains(err.Message, field) {
				t.Errorf("%s: %s: %v", field, value, err)
			}
		}
	}
}

func enqueueWith(field, value string) string {
	line := fmt.Sprintf(`{"id":1,"op":"enqueue",%q:%s`, field, value)
	if field != "action" {
		line += `,"action":"a"`
	}
	return line + "}"
}

func TestTheFieldsOfTheOtherOpsHaveBoundsToo(t *testing.T) {
	t.Parallel()
	cases := []struct{ line, field string }{ // no field: it is allowed
		{`{"op":"run","action":"a","timeout":3600}`, ""}, {`{"op":"run","action":"a","timeout":0}`, "timeout"}, {`{"op":"run","action":"a","timeout":3601}`, "timeout"},
		{`{"op":"wait","task":"t","timeout":0}`, ""}, {`{"op":"wait","task":"t","timeout":3601}`, "timeout"},
		{`{"op":"get","task":"t","payload":true}`, ""}, {`{"op":"get","task":"t","payload":1}`, "payload"}, {`{"op":"get","task":""}`, "task"},
		{`{"op":"get","task":"` + strings.Repeat("t", 64) + `"}`, ""}, {`{"op":"get","task":"` + strings.Repeat("t", 65) + `"}`, "task"}, {`{"op":"get","task":1}`, "task"},
		{`{"op":"watch","task":"t","after":0}`, ""}, {`{"op":"watch","task":"t","after":-1}`, "after"}, {`{"op":"watch","task":"t","after":1.5}`, "after"},
		{`{"op":"cancel","task":"t"}`, ""}, {`{"op":"cancel","task":"t","filter":{"queue":"q"}}`, "task"}, {`{"op":"cancel","filter":{"queue":"q"}}`, ""},
		{`{"op":"cancel","filter":[]}`, "filter"}, {`{"op":"cancel","task":"t","limit":1}`, "limit"}, {`{"op":"retry","filter":{"queue":"q"},"limit":10000}`, ""},
		{`{"op":"retry","filter":{"queue":"q"},"limit":10001}`, "limit"}, {`{"op":"retry","filter":{"queue":"q"},"limit":0}`, "limit"},
		{`{"op":"list","limit":200}`, ""}, {`{"op":"list","limit":201}`, "limit"}, {`{"op":"list","limit":0}`, "limit"}, {`{"op":"list","status":"done"}`, ""},
		{`{"op":"list","status":"cancelling"}`, "status"}, {`{"op":"list","status":1}`, "status"}, {`{"op":"list","cursor":""}`, "cursor"},
		{`{"op":"list","cursor":"` + strings.Repeat("c", 1024) + `"}`, ""}, {`{"op":"list","cursor":"` + strings.Repeat("c", 1025) + `"}`, "cursor"},
		{`{"op":"list","queue":"default","action":"a","meta":{"k":"v"}}`, ""}, {`{"op":"list","meta":{"k":1}}`, "meta"}, {`{"op":"pause","queue":"Q"}`, "queue"},
		{`{"op":"auth","token":""}`, ""}, {`{"op":"auth","token":1}`, "token"}, {`{"op":"auth","token":null}`, "token"},
		{`{"op":"enqueue","action":"a","delay":1,"run_at":"2026-01-31T08:00:00Z"}`, "run_at"}, {`{"op":"enqueue","action":"a","payload":1,"payload_blob":{}}`, "payload_blob"},
		{`{"op":"enqueue","action":"a","delay":10,"expires":5}`, "expires"}, {`{"op":"enqueue","action":"a","delay":5,"expires":5}`, "expires"},
		{`{"op":"enqueue","action":"a","delay":0,"expires":5}`, ""}, {`{"op":"enqueue","action":"a","delay":4.9,"expires":5}`, ""},
		{`{"op":"enqueue","action":"a","backoff":10,"backoff_max":5}`, "backoff_max"}, {`{"op":"enqueue","action":"a","backoff":0,"backoff_max":0}`, ""},
		{`{"op":"enqueue","action":"a","backoff":86400}`, ""},
	}
	for _, c := range cases {
		_, err := read(c.line)
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", c.line, err)
		case c.field != "" && (err == nil || err.Code != task.InvalidRequest || err.Field != c.field):
			t.Errorf("%s: %v, want one that names %s", c.line, err, c.field)
		}
	}
}

func TestValuesAreWhatWasWritten(t *testing.T) {
	t.Parallel()
	r, err := read(`{"id":"x","op":"enqueue","action":"re\u0073ize","payload":{"w": 10},"timeout":2.5,"queue":"mail","delay":1.5,"expires":30,"priority":"low",` +
		`"max_attempts":3,"key":"k\u0031","keep":60,"meta":{"team": "a"},"wait":true}`)
	if err != nil {
		t.Fatal(err)
	}
	o := r.Options
	if string(r.Action) != "resize" || string(r.Payload) != `{"w": 10}` || r.Timeout != 2500*time.Millisecond || o.Queue != "mail" ||
		o.Delay != 1500*time.Millisecond || o.Expires != 30*time.Second || o.Priority != "low" || o.MaxAttempts != 3 || o.Key != "k1" ||
		o.Keep != time.Minute || string(o.Meta) != `{"team": "a"}` || !o.Wait {
		t.Errorf("%+v\n%+v", r, o)
	}
	r, err = read(`{"op":"enqueue","action":"a","run_at":"2026-01-31T08:00:00.5+02:00"}`)
	if want := time.Date(2026, 1, 31, 6, 0, 0, 5e8, time.UTC); err != nil || !r.Options.RunAt.Equal(want) || r.Options.RunAt.Location() != time.UTC {
		t.Errorf("run_at is %s (%v)", r.Options.RunAt, err)
	}
	for text, want := range map[string]time.Duration{`0.000000001`: 1, `1e-12`: 1, `3600`: time.Hour, `0.1`: 100 * time.Millisecond} {
		if r, err := read(`{"action":"a","timeout":` + text + `}`); err != nil || r.Timeout != want {
			t.Errorf("timeout %s is %s (%v)", text, r.Timeout, err)
		}
	}
	if r, err := read(`{"action":"a"}`); err != nil || r.Timeout != 0 || r.Payload != nil {
		t.Errorf("what is absent: %s, %q (%v)", r.Timeout, r.Payload, err)
	}
}

func TestAFilterIsHeldToTheRulesOfItsFields(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		`{"queue":"q"}`, `{"action":"a"}`, `{"status":"failed"}`, `{"meta":{"a":""}}`, ` { "queue" : "q" , "meta" : {} } `,
		`{"queue":"q","action":"a","status":"done","meta":{"a":"b","c":"d"}}`,
	} {
		if r, err := read(`{"op":"cancel","filter":` + good + `}`); err != nil || string(r.Options.Filter) != strings.TrimSpace(good) {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		`{}`:                         "filter is empty; it needs queue, action, status, owner or meta",
		`{"meta":{}}`:                "filter: meta is empty and nothing else is there; a filter cannot match every task",
		`{"QUEUE":"q"}`:              "filter: unknown member QUEUE; a filter has queue, action, status, owner, meta",
		`{"queue":"q","limit":1}`:    "filter: unknown member limit; a filter has queue, action, status, owner, meta",
		`{"queue":""}`:               "filter: queue has 0 bytes, 1 to 64 are allowed",
		`{"queue":"A"}`:              "filter: queue may have only a-z, 0-9, '.', '_' and '-'",
		`{"queue":7}`:                "filter: queue must be a string",
		`{"action":""}`:              "filter: action has 0 bytes, 1 to 128 are allowed",
		`{"status":"cancelling"}`:    `filter: status must be one of ["scheduled" "queued" "running" "done" "failed" "cancelled"]`,
		`{"status":null}`:            `filter: status must be one of ["scheduled" "queued" "running" "done" "failed" "cancelled"]`,
		`{"meta":{"a":null}}`:        "filter: meta must be an object whose values are strings",
		`{"meta":[]}`:                "filter: meta must be an object",
		`{"queue":"q","meta":"all"}`: "filter: meta must be an object",
	} {
		if _, err := read(`{"op":"retry","filter":` + bad + `}`); err == nil || err.Code != task.InvalidRequest || err.Field != "filter" || err.Message != want {
			t.Errorf("%s: %v, want %s", bad, err, want)
		}
	}
}
