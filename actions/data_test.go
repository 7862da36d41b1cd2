package actions_test

import (
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/wire"
)

func TestDataIsJSONThatEveryClientReads(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		" {\"a\": [1,\n2]}\n": `{"a":[1,2]}`,
		"plain":               `"plain"`,
		"":                    `""`,
		`{"a":1,"a":2}`:       `"{\"a\":1,\"a\":2}"`,
		`{"a":"\ud800"}`:      `"{\"a\":\"\\ud800\"}"`,
		"\xff":                "\"\uFFFD\"",
		strings.Repeat("[", 200) + strings.Repeat("]", 200): `"` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `"`,
	} {
		got := string(actions.AppendData(nil, []byte(output)))
		got, found := strings.CutPrefix(got, `"data":`)
		if !found || got != want && got != strings.ReplaceAll(want, "\uFFFD", `\ufffd`) {
			t.Errorf("%q gives %s, want %s", output, got, want)
		}
		if err := wire.Valid([]byte(got)); err != nil {
			t.Errorf("%q gives %s: %v", output, got, err)
		}
	}
}
