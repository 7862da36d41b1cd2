package actions_test

import "testing"

func TestEchoAnswersWithThePayloadsOwnBytes(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`"hola"`, `null`, `true`, `0`, `-0`, `1e400`, `12345678901234567890`, `0.1000`,
		`"\u00df\/\n"`, `"ß"`, `{ "b":1, "a":[ ] }`, `[]`, `""`,
	} {
		wantAnswer(t, "echo", payload, `"data":`+payload)
	}
}

func BenchmarkEcho(b *testing.B) { benchmark(b, "echo", `"texto de prueba"`) }
