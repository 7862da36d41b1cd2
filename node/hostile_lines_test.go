package node_test

import (
	"fmt"
	"strings"
	"testing"
)

// hostileLine is a line that no honest client sends, or that only a careful server survives,
// with the expected reply. A line without a reply is skipped. After each of them the same
// connection must still be served.
type hostileLine struct{ name, line, want string }

// badJSON is the reply to everything that is not one strict JSON text.
const badJSON = `{"id":null,"status":"error","code":"invalid_json","error":"invalid json","detail":"…"}`

// refused returns the reply to a refused line; field is the wrong field, or "" if the reply
// names none.
func refused(id, code, field string) string {
	if field != "" {
		field = fmt.Sprintf(`,"field":%q`, field)
	}
	return fmt.Sprintf(`{"id":%s,"status":"error","code":%q,"error":"…"%s}`, id, code, field)
}

// done returns the reply to a task that ran; members follow "ok" in its result.
func done(id, members string) string {
	return fmt.Sprintf(`{"id":%s,"status":"done","result":{"ok":%s}}`, id, members)
}

// failed returns the reply to a task whose action failed.
func failed(id, message string) string { return done(id, `false,"error":"`+message+`"`) }

// echoed returns the reply to an echo with id 1.
func echoed(payload string) string { return done("1", `true,"data":`+payload) }

// echo returns a request for an echo of a payload.
func echo(payload string) string { return `{"id":1,"action":"echo","payload":` + payload + `}` }

func hostileLines() []hostileLine {
	var all []hostileLine
	for _, part := range [][]hostileLine{
		hostileFraming(), hostileJSON(), hostileText(), hostileKeys(), hostileDepth(),
		hostileIDs(), hostileFields(), hostilePayloads(), hostileNames(),
	} {
		all = append(all, part...)
	}
	return all
}

func hostileFraming() []hostileLine {
	const run = `{"id":1,"action":"echo"}`
	return []hostileLine{
		{"a blank line", "", ""},
		{"a blank line of Windows", "\r", ""},
		{"a line of spaces", "  \t ", ""},
		{"a line end of Windows", run + "\r", echoed("null")},
		{"white space around everything", " \t{ \"id\" :\t1 , \"action\" : \"echo\" } \r", echoed("null")},
		{"a carriage return instead of a line end", run + "\r" + run, badJSON},
		{"two objects", run + run, badJSON},
		{"two objects with a comma", run + "," + run, badJSON},
		{"an object and a NUL", run + "\x00", badJSON},
		{"an object and a bracket", run + "]", badJSON},
		{"an object and a word", run + " x", badJSON},
		{"an object and a semicolon", run + ";", badJSON},
		{"a NUL", "\x00", badJSON},
		{"two byte order marks", "\ufeff\ufeff" + run, badJSON},
		{"UTF-16", "\xff\xfe{\x00}\x00", badJSON},
		{"a vertical tab", "\v" + run, badJSON},
		{"a form feed", "\f" + run, badJSON},
		{"a no-break space", "\u00a0" + run, badJSON},
		{"a record separator", "\x1e" + run, badJSON},
		{"a netstring", "24:" + run + ",", badJSON},
		{"a length before", "\x00\x00\x00\x18" + run, badJSON},
		{"telnet's negotiation", "\xff\xfb\x1f\xff\xfd\x03" + run, badJSON},
		{"a terminal's escape", "\x1b[2J" + run, badJSON},
		{"a comment", "// " + run, badJSON},
		{"a comment inside", `{"id":1,/* */"action":"echo"}`, badJSON},
		{"a Redis command", "*1\r", badJSON},
		{"a prefix against hijacking", ")]}'," + run, badJSON},
	}
}

func hostileJSON() []hostileLine {
	const noObject = `{"id":null,"status":"error","code":"invalid_request","error":"the line must be a JSON object…"}`
	lines := []hostileLine{
		{"an empty object", `{}`, refused("null", "invalid_request", "action")},
		{"an array", `[{"id":1,"action":"echo"}]`, noObject},
		{"an empty array", `[]`, noObject},
		{"null", `null`, noObject},
		{"true", `true`, noObject},
		{"a number", `1`, noObject},
		{"a string", `"run"`, noObject},
		{"an endless object", `{`, badJSON},
		{"an object that ends before it begins", `}`, badJSON},
		{"a key without a value", `{"id":1,"action"}`, badJSON},
		{"a key without a colon", `{"id" 1}`, badJSON},
		{"a value without a key", `{:1}`, badJSON},
		{"a comma too many", `{"id":1,"action":"echo",}`, badJSON},
		{"two commas", `{"id":1,,"action":"echo"}`, badJSON},
		{"a comma first", `{,"id":1}`, badJSON},
		{"keys without quotes", `{id:1,action:"echo"}`, badJSON},
		{"single quotes", `{'id':1,'action':'echo'}`, badJSON},
		{"a key that is a number", `{1:1}`, badJSON},
		{"brackets that cross", `{"payload":[{]}}`, badJSON},
	}
	for _, value := range []string{
		`[1,]`, `[,1]`, `[1 2]`, `{"a":1,}`, `tru`, `True`, `nul`, `undefined`, `NaN`, `Infinity`, `-Infinity`,
		`01`, `-01`, `+1`, `.5`, `1.`, `1.e5`, `1e`, `1e+`, `-`, `--1`, `0x10`, `1_000`, `1,000`, `1f`, `"`, ``,
	} {
		lines = append(lines, hostileLine{"the value " + value, echo(value), badJSON})
	}
	return lines
}

func hostileText() []hostileLine {
	lines := []hostileLine{
		{"DEL and a line separator", echo("\"\x7f\u2028\u2029\""), echoed("\"\x7f\u2028\u2029\"")},
		{"a pair of surrogates", echo(`"\ud83d\ude00"`), echoed(`"\ud83d\ude00"`)},
		{"an escaped NUL", echo(`"\u0000"`), echoed(`"\u0000"`)},
		{"a character that is none", echo("\"\uffff\""), echoed("\"\uffff\"")},
		{"invalid UTF-8 in a key", "{\"id\":1,\"action\":\"echo\",\"payload\":{\"\xff\":1}}", badJSON},
		{"invalid UTF-8 in an id", "{\"id\":\"\xff\",\"action\":\"echo\"}", badJSON},
		{"invalid UTF-8 in an action", "{\"id\":1,\"action\":\"\xc3\"}", badJSON},
	}
	for name, text := range map[string]string{
		"a tab": "\t", "a control character": "\x01", "a carriage return": "\r", "an escape": "\x1b", "a NUL": "\x00",
		"\\x": `\x41`, "\\0": `\0`, "\\'": `\'`, "\\U": `\U0001f600`, "\\u12": `\u12`, "\\u{}": `\u{41}`, "\\u00g0": `\u00g0`, "\\": `\`,
		"a high surrogate": `\ud800`, "a low surrogate": `\udc00`, "two high surrogates": `\ud800\ud800`,
		"surrogates the wrong way round": `\ude00\ud83d`, "half an escape of a pair": `\ud83d\u0041`, "half a pair": `\ud83dx`,
		"a stray byte": "\xff", "a continuation byte": "\x80", "an overlong slash": "\xc0\xaf", "an overlong NUL": "\xe0\x80\x80",
		"a surrogate in UTF-8": "\xed\xa0\x80", "beyond Unicode": "\xf4\x90\x80\x80", "a character cut short": "\xe2\x82",
	} {
		lines = append(lines, hostileLine{"a string with " + name, echo(`"` + text + `"`), badJSON})
	}
	return lines
}

func hostileKeys() []hostileLine {
	var many strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&many, `"k%d":%d,`, i, i)
	}
	return []hostileLine{
		{"two ids", `{"id":1,"action":"echo","id":2}`, badJSON},
		{"two ids, the same", `{"id":1,"id":1,"action":"echo"}`, badJSON},
		{"two ids, one of them escaped", `{"id":1,"\u0069d":2,"action":"echo"}`, badJSON},
		{"two actions", `{"id":1,"action":"echo","action":"fib"}`, badJSON},
		{"two unknown keys, the same", `{"id":1,"action":"echo","x":1,"x":1}`, badJSON},
		{"two keys in a payload", echo(`{"a":1,"b":2,"a":3}`), badJSON},
		{"two keys in a payload, escaped", echo(`{"é":1,"\u00e9":3}`), badJSON},
		{"two keys, by a pair of surrogates", echo(`{"😀":1,"\ud83d\ude00":3}`), badJSON},
		{"two keys deep inside", echo(`[[{"x":[{"y":{"a":1,"a":1}}]}]]`), badJSON},
		{"two empty keys", echo(`{"":1,"":2}`), badJSON},
		{"the same key side by side", echo(`[{"a":1},{"a":1}]`), echoed(`[{"a":1},{"a":1}]`)},
		{"the same key inside", echo(`{"a":{"a":1}}`), echoed(`{"a":{"a":1}}`)},
		{"keys that differ in case", echo(`{"a":1,"A":2}`), echoed(`{"a":1,"A":2}`)},
		{"20,000 keys", echo(`{` + many.String() + `"z":0}`), echoed(`{` + many.String() + `"z":0}`)},
		{"20,001 keys, two of them the same", echo(`{` + many.String() + `"k0":0}`), badJSON},
		{"an escaped key", `{"\u0069d":1,"\u0061ction":"echo"}`, echoed("null")},
		{"a key in capitals", `{"id":1,"action":"echo","PAYLOAD":1}`, refused("1", "unknown_field", "PAYLOAD")},
		{"an empty key", `{"id":1,"action":"echo","":1}`, `{"id":1,"status":"error","code":"unknown_field","error":"…"…}`},
		{"a key with a NUL", `{"id":1,"action":"echo","id\u0000":1}`, refused("1", "unknown_field", `id…`)},
		{"a key of JavaScript", `{"id":1,"action":"echo","__proto__":{}}`, refused("1", "unknown_field", "__proto__")},
		{"a key of another op", `{"id":1,"action":"echo","queue":"q"}`, refused("1", "unknown_field", "queue")},
		{"a key of 100 KB", `{"id":1,"action":"echo","` + strings.Repeat("k", 100_000) + `":1}`,
			refused("1", "unknown_field", strings.Repeat("k", 64)+"…")},
	}
}

func hostileDepth() []hostileLine {
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	objects := func(depth int) string { return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth) }
	return []hostileLine{
		{"arrays 64 deep", echo(nested(63)), echoed(nested(63))},
		{"arrays 65 deep", echo(nested(64)), badJSON},
		{"objects 64 deep", echo(objects(63)), echoed(objects(63))},
		{"objects 65 deep", echo(objects(64)), badJSON},
		{"arrays half a million deep", strings.Repeat("[", 500_000), badJSON},
		{"a payload 500,000 deep", echo(nested(500_000)), badJSON},
		{"objects 100,000 deep", echo(objects(100_000)), badJSON},
	}
}

func hostileIDs() []hostileLine {
	lines := []hostileLine{
		{"no id", `{"action":"echo"}`, done("null", `true,"data":null`)},
		{"a string of 129 bytes", `{"id":"` + strings.Repeat("a", 129) + `","action":"echo"}`, refused("null", "invalid_request", "id")},
		{"a string of 1 MB", `{"id":"` + strings.Repeat("a", 1_000_000) + `","action":"echo"}`, refused("null", "invalid_request", "id")},
		{"a number of 65 bytes", `{"id":` + strings.Repeat("1", 65) + `,"action":"echo"}`, refused("null", "invalid_request", "id")},
		{"a broken line with an id", `{"id":1,"action":}`, badJSON},
		{"an unknown op with an id", `{"id":"x","op":"nope"}`, refused(`"x"`, "unknown_op", "op")},
	}
	for _, id := range []string{
		`null`, `""`, `0`, `-0`, `9007199254740993`, `18446744073709551617`, `1e400`, `-1.50E-07`, strings.Repeat("9", 64),
		`"` + strings.Repeat("a", 128) + `"`, `"\u0000"`, `"\ud83d\ude00"`, `"\"\\\/"`, `"</script>"`, `"ñ"`, `"null"`, "\"\u202e\"",
	} {
		lines = append(lines, hostileLine{"the id " + id, `{"id":` + id + `,"action":"echo"}`, done(id, `true,"data":null`)})
	}
	for _, id := range []string{`true`, `false`, `[]`, `[1]`, `{}`, `{"id":1}`} {
		lines = append(lines, hostileLine{"the id " + id, `{"id":` + id + `,"action":"echo"}`, refused("null", "invalid_request", "id")})
	}
	return lines
}

func hostileFields() []hostileLine {
	lines := []hostileLine{
		{"an escaped op", `{"id":1,"op":"\u0072un","action":"echo"}`, echoed("null")},
		{"an op of 100 KB", `{"id":1,"op":"` + strings.Repeat("x", 100_000) + `"}`, refused("1", "unknown_op", "op")},
		{"ping with a payload", `{"id":1,"op":"ping","payload":1}`, refused("1", "unknown_field", "payload")},
		{"ping with an action", `{"id":1,"op":"ping","action":"echo"}`, refused("1", "unknown_field", "action")},
		{"info with a timeout", `{"id":1,"op":"info","timeout":1}`, refused("1", "unknown_field", "timeout")},
		{"run with a token", `{"id":1,"action":"echo","token":"x"}`, refused("1", "unknown_field", "token")},
		{"auth where nobody asks for it", `{"id":1,"op":"auth","token":"x"}`, done("1", `true,"name":"anonymous","scopes":["all"]`)},
		{"auth without a token", `{"id":1,"op":"auth"}`, refused("1", "invalid_request", "token")},
		{"auth with a number", `{"id":1,"op":"auth","token":1}`, refused("1", "invalid_request", "token")},
		{"the longest timeout", `{"id":1,"action":"echo","timeout":3600}`, echoed("null")},
		{"the op before the fields", `{"id":1,"op":"nope","x":1}`, refused("1", "unknown_op", "op")},
		{"the unknown field before the values", `{"id":1,"action":5,"x":1}`, refused("1", "unknown_field", "x")},
		{"the id before the op", `{"id":[],"op":"nope"}`, refused("null", "invalid_request", "id")},
		{"an enqueue with a mistake", `{"id":1,"op":"enqueue","action":"echo","priority":"urgent"}`, refused("1", "invalid_request", "priority")},
	}
	for _, op := range []string{`1`, `null`, `[]`, `{}`, `true`} {
		lines = append(lines, hostileLine{"the op " + op, `{"id":1,"op":` + op + `,"action":"echo"}`, refused("1", "invalid_request", "op")})
	}
	for _, op := range []string{``, `RUN`, `run `, ` run`, `goaway`, `run\u0000`, `finish`} {
		lines = append(lines, hostileLine{"the op " + op, `{"id":1,"op":"` + op + `","action":"echo"}`, refused("1", "unknown_op", "op")})
	}
	for _, action := range []string{`1`, `null`, `[]`, `{}`, `true`, `""`, `"` + strings.Repeat("a", 129) + `"`, `"a\nb"`, `"echo\u0000"`, `"\u001b[31m"`} {
		lines = append(lines, hostileLine{"the action " + short(action), `{"id":1,"action":` + action + `}`, refused("1", "invalid_request", "action")})
	}
	for _, timeout := range []string{`0`, `-1`, `3600.1`, `1e999`, `-1e999`, `"1"`, `true`, `[]`, `{}`, `null`} {
		lines = append(lines, hostileLine{"the timeout " + timeout, `{"id":1,"action":"echo","timeout":` + timeout + `}`, refused("1", "invalid_request", "timeout")})
	}
	return lines
}

func hostilePayloads() []hostileLine {
	call := func(action, payload string) string {
		return `{"id":1,"action":"` + action + `","payload":` + payload + `}`
	}
	quotes := `"` + strings.Repeat(`\"`, 300_000) + `"`
	digits := strings.Repeat("7", 1_000_000)
	fib, sleep := failed("1", "fib takes a whole number from 0 to 1000000, not …"), failed("1", "sleep takes seconds, a number from 0 to 3600, not …")
	tooLarge := failed("1", "…1048576…")
	lines := []hostileLine{
		{"a number of a million digits", call("echo", digits), echoed(digits)},
		{"a number of a million digits for fib", call("fib", digits), fib},
		{"a result that is larger than its payload", call("upper", "["+quotes+"]"), tooLarge},
		{"a result that is three times its payload", call("upper", `"`+strings.Repeat("ΐ", 250_000)+`"`), tooLarge},
		{"the largest fib", call("fib", "1e6"), done("1", `true,"fib":1953282128707757…8242546875`)},
		{"the shortest sleep", call("sleep", "1e-400"), done("1", `true,"slept":0.5`)},
		{"an array of 300,000 zeros", call("echo", "["+strings.Repeat("0,", 300_000)+"0]"), echoed("[" + strings.Repeat("0,", 300_000) + "0]")},
	}
	for _, n := range []string{`9007199254740993`, `-9007199254740993`, `1e400`, `-0`, `0.1000`, `1E+2`, `123456789012345678901234567890.0`} {
		lines = append(lines, hostileLine{"an echo of " + n, call("echo", n), echoed(n)})
	}
	for _, n := range []string{`-1`, `1e9`, `1000001`, `2.5`, `"x"`, `true`, `[]`, `1e999999999999`, `1e-999999999999`} {
		lines = append(lines, hostileLine{"fib of " + n, call("fib", n), fib})
	}
	for _, n := range []string{`-1`, `-1e-9`, `3600.5`, `1e999`, `"x"`, `false`, `{}`} {
		lines = append(lines, hostileLine{"a sleep of " + n, call("sleep", n), sleep})
	}
	return lines
}

func hostileNames() []hostileLine {
	var lines []hostileLine
	for name, shown := range map[string]string{
		`nope`: `nope`, `ECHO`: `ECHO`, `echo `: `echo `, `__proto__`: `__proto__`, `../../etc/passwd`: `../../etc/passwd`,
		`$(id)`: `$(id)`, `'; drop table tasks; --`: `'; drop table tasks; --`,
		`\"`: `\"`, `%s%n%d`: `%s%n%d`, `😀`: `😀`, strings.Repeat("a", 128): strings.Repeat("a", 128),
	} {
		lines = append(lines, hostileLine{"the action " + name, `{"id":1,"action":"` + name + `"}`, failed("1", "unknown action "+shown)})
	}
	return lines
}

func TestAHostileLineGetsItsReplyAndTheConnectionIsStillServed(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	lines := hostileLines()
	if len(lines) < 60 {
		t.Errorf("the table has %d lines, want at least 60", len(lines))
	}
	t.Run("lines", func(t *testing.T) {
		for _, c := range lines {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				v := visit(t, server.addr)
				v.send(c.line + "\n")
				if c.want != "" {
					v.expect(c.want)
				}
				v.expectPong()
				v.finish()
				v.expectEnd()
			})
		}
	})
	server.expectAlive(t)
}
