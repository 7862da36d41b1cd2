package actions_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"github.com/posta-tasks/posta/actions"
)

func TestUpperAnswersWithTheStringInUpperCase(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`"hola"`:                       `"HOLA"`,
		`"texto de prueba"`:            `"TEXTO DE PRUEBA"`,
		`""`:                           `""`,
		`"az AZ 09 {|}~@[` + "`" + `"`: `"AZ AZ 09 {|}~@[` + "`" + `"`,
		`"ñandú"`:                      `"ÑANDÚ"`,
		`"straße"`:                     `"STRASSE"`,
		`"ﬁn ŉ ǰ ΐ ﬃ"`:                 "\"FIN \u02bcN J\u030c \u0399\u0308\u0301 FFI\"",
		`"ὀδυσσεύς ᾳ"`:                 `"ὈΔΥΣΣΕΎΣ ΑΙ"`,
		`"привет"`:                     `"ПРИВЕТ"`,
		`"i ı İ ÿ µ ſ"`:                `"I I İ Ÿ Μ S"`,
		`"日本 😀 𐐨"`:                     `"日本 😀 𐐀"`,
	} {
		wantAnswer(t, "upper", payload, `"data":`+want)
	}
}

func TestUpperTakesEscapesForWhatTheyStandFor(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`"a\nb\tc\rd\be\ff"`:   `"A\nB\tC\rD\bE\fF"`,
		`"\"a\\b\/c\""`:        `"\"A\\B\/C\""`,
		`"\\n"`:                `"\\N"`,
		`"\\u00df"`:            `"\\U00DF"`,
		`"\u00df"`:             `"SS"`,
		`"\u0061\u00e9"`:       `"AÉ"`,
		`"\ud801\udc28"`:       `"𐐀"`,
		`"\u0000\u001f\u007f"`: `"\u0000\u001f\u007f"`,
		`"ß\n\r\t\"\\\b"`:      `"SS\n\r\t\"\\\u0008"`,
		`"\u2028é<&>"`:         `"` + "\u2028" + `É<&>"`,
	} {
		wantAnswer(t, "upper", payload, `"data":`+want)
	}
}

func TestUpperOfWhatIsNoStringIsItsJSONTextInUpperCase(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`null`:              `"NULL"`,
		`true`:              `"TRUE"`,
		`5`:                 `"5"`,
		`-1.5e3`:            `"-1.5E3"`,
		`{"a":1}`:           `"{\"A\":1}"`,
		`{ "a" : "b\"\n" }`: `"{ \"A\" : \"B\\\"\\N\" }"`,
		`["ß",null]`:        `"[\"SS\",NULL]"`,
		"[\t\"x\",\r\n1]":   `"[\t\"X\",\r\n1]"`,
	} {
		wantAnswer(t, "upper", payload, `"data":`+want)
	}
}

func TestUpperMayBeUsedByManyAtOnce(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				wantAnswer(t, "upper", `"größe ὀδυσσεύς"`, `"data":"GRÖSSE ὈΔΥΣΣΕΎΣ"`)
			}
		})
	}
	group.Wait()
}

func TestUpperOfASCIIDoesNotAllocate(t *testing.T) {
	entry := builtin(t, "upper")
	buf := make([]byte, 0, 256)
	for _, payload := range []string{`"hola"`, `"a\nb \"c\" \\"`, `{"a":[1,true,null]}`} {
		call := &actions.Call{Payload: json.RawMessage(payload)}
		if n := testing.AllocsPerRun(100, func() { _, _ = entry.Append(t.Context(), call, buf) }); n != 0 {
			t.Errorf("upper %s allocates %v times, want 0", payload, n)
		}
	}
}

// FuzzUpper holds the fast paths to the plain way: decode, upper-case, encode.
func FuzzUpper(f *testing.F) {
	for _, seed := range []string{`"hola"`, `"straße"`, `"a\nb"`, `"\u00df"`, `{"a":1}`, `null`, `"\\u0061"`, `["\"ß"]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if !json.Valid(payload) || !utf8.Valid(payload) || strings.TrimSpace(string(payload)) != string(payload) {
			t.Skip("an executor never hands this over")
		}
		text := string(payload)
		if payload[0] == '"' {
			if err := json.Unmarshal(payload, &text); err != nil {
				t.Fatal(err)
			}
		}
		want := cases.Upper(language.Und).String(text)
		members, err := answer(t, t.Context(), "upper", string(payload))
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Data string }
		if err := json.Unmarshal([]byte("{"+members+"}"), &got); err != nil || got.Data != want {
			t.Errorf("upper %q answers %s (%v), want %q", payload, members, err, want)
		}
	})
}

func BenchmarkUpperASCII(b *testing.B)   { benchmark(b, "upper", `"texto de prueba"`) }
func BenchmarkUpperUnicode(b *testing.B) { benchmark(b, "upper", `"año nuevo, straße vieja"`) }
func BenchmarkUpperObject(b *testing.B)  { benchmark(b, "upper", `{"a":1,"b":[true,null]}`) }
