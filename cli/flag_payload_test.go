package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/cli/terminal"
)

func TestAPayloadIsJSONOrAString(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"25": "25", "hola": `"hola"`, `"hola"`: `"hola"`, "": `""`, "null": "null", "01": `"01"`, "1e400": "1e400",
		"[1, 2]": "[1, 2]", " 7 ": "7", "{\n \"a\": 1\n}": `{"a":1}`, "-": `"-"`, "@-": `"from stdin"`, "a\nb": `"a\nb"`,
	} {
		var stderr bytes.Buffer
		got, err := readPayload(&terminal.Outside{Stdin: strings.NewReader("from stdin"), Stderr: &stderr}, word)
		if err != nil || string(got) != want {
			t.Errorf("%q is %s, %v; want %s", word, got, err, want)
		}
	}
	for _, word := range []string{"\xff", `{"a":1,"a":2}`, `"\ud800"`, "@/no/such/file"} {
		if got, err := readPayload(&terminal.Outside{}, word); err == nil {
			t.Errorf("%q is taken for %s", word, got)
		}
	}
}

func TestAPayloadThatIsTooLargeForALineIsRefusedWithAHint(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"run", "enqueue"} {
		got := typeIn(t, strings.Repeat("x", 3<<20), nil, verb, "echo", "@-")
		if got.code != exitUsage || !strings.Contains(got.stderr, "larger than 1 MiB") || !strings.Contains(got.stderr, "PUT /v1/blobs") {
			t.Errorf("posta %s: %+v", verb, got)
		}
	}
}
