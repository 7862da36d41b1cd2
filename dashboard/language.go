package dashboard

import (
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	xlanguage "golang.org/x/text/language"
)

//go:embed texts/*.json
var textFiles embed.FS

// language has the texts of one language.
type language struct {
	Code         string // BCP 47
	texts        map[string]string
	group, point string // separators of numbers
}

// readLanguages reads the catalogues. The first language is the default.
func readLanguages() ([]*language, error) {
	list := []*language{{Code: "en", group: ",", point: "."}, {Code: "es", group: ".", point: ","}}
	for _, l := range list {
		raw, err := textFiles.ReadFile("texts/" + l.Code + ".json")
		if err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
		if err := json.Unmarshal(raw, &l.texts); err != nil {
			return nil, fmt.Errorf("dashboard: texts/%s.json: %w", l.Code, err)
		}
	}
	return list, nil
}

// languageCookie has the language that the visitor has chosen.
const languageCookie = "posta-language"

// languageFor returns the language of a request: the chosen one, or the one that the browser prefers.
func (d *Dashboard) languageFor(r *http.Request) *language {
	var tags []xlanguage.Tag
	chosen := cookieValue(r, languageCookie)
	for _, l := range d.languages {
		if l.Code == chosen {
			return l
		}
		tags = append(tags, xlanguage.MustParse(l.Code))
	}
	accepted := r.Header.Get("Accept-Language")
	if len(accepted) > 256 {
		accepted = ""
	}
	_, i := xlanguage.MatchStrings(xlanguage.NewMatcher(tags), accepted)
	return d.languages[i]
}

// text returns a text of the catalogue, with args in the places of its verbs. An unknown key is returned as it is, so
// that a page is shown even then; a test finds it.
func (l *language) text(key string, args ...any) string {
	text, ok := l.texts[key]
	if !ok {
		return key
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// count returns the text for a number: key.one for 1, otherwise key.other, which has a %s for the number.
func (l *language) count(key string, n int64) string {
	form := ".other"
	if n == 1 {
		form = ".one"
	}
	return l.text(key+form, l.number(n))
}

// number writes a whole number with separators.
func (l *language) number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	if len(digits) < 5 && l.Code == "es" { // Spanish groups from five digits on
		return sign + digits
	}
	var out strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteString(l.group)
		}
		out.WriteRune(c)
	}
	return sign + out.String()
}

// decimal writes a number with up to so many decimals.
func (l *language) decimal(x float64, decimals int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	text := strconv.FormatFloat(x, 'f', decimals, 64)
	whole, rest, _ := strings.Cut(text, ".")
	n, _ := strconv.ParseInt(whole, 10, 64)
	rest = strings.TrimRight(rest, "0")
	if rest == "" {
		return l.number(n)
	}
	return l.number(n) + l.point + rest
}

// rate writes a number per second: with more digits the smaller it is.
func (l *language) rate(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 0.05:
		return "<" + l.decimal(0.1, 1)
	case x < 10:
		return l.decimal(x, 1)
	}
	return l.decimal(x, 0)
}

// span writes a duration with one or two units.
func (l *language) span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return l.decimal(math.Round(d.Seconds()*10)/10, 1) + " s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return two(int(d.Minutes()), "min", int(d.Seconds())%60, "s")
	case d < 48*time.Hour:
		return two(int(d.Hours()), "h", int(d.Minutes())%60, "min")
	}
	return two(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
}

func two(a int, unit string, b int, smaller string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unit)
	}
	return fmt.Sprintf("%d %s %d %s", a, unit, b, smaller)
}

// coarse writes a duration with one unit.
func (l *language) coarse(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(max(0, int(d.Seconds()))) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours())/24) + " d"
}

// ago writes how far from now a time is, in the past or the future.
func (l *language) ago(now, at time.Time) string {
	d := now.Sub(at)
	switch {
	case at.IsZero():
		return "–"
	case d < -time.Second:
		return l.text("time.in", l.coarse(-d))
	case d < time.Second:
		return l.text("time.now")
	}
	return l.text("time.ago", l.coarse(d))
}

// size writes a number of bytes.
func (l *language) size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	x, i := float64(n), 0
	for x >= 1024 && i < len(units)-1 {
		x, i = x/1024, i+1
	}
	return l.decimal(x, min(i, 1)) + " " + units[i]
}

// visible replaces characters that cannot be seen, or that change the order of others, by their names in brackets. All
// texts of clients that pages show go through it.
func visible(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	for _, c := range text {
		switch {
		case c == '\n' || c == '\t':
			out.WriteRune(c)
		case c < 0x20: // the pictures of control characters
			out.WriteRune(0x2400 + c)
		case c == 0x7f:
			out.WriteRune(0x2421)
		case hidden(c):
			fmt.Fprintf(&out, "[U+%04X]", c)
		default:
			out.WriteRune(c)
		}
	}
	return out.String()
}

// hidden reports whether a character is a control, or a mark that changes the direction of text.
func hidden(c rune) bool {
	return c < 0x20 && c != '\n' && c != '\t' || c >= 0x7f && c <= 0x9f || c == 0x61c || c >= 0x200b && c <= 0x200f ||
		c >= 0x202a && c <= 0x202e || c >= 0x2060 && c <= 0x206f || c == 0xfeff || c >= 0xfff9 && c <= 0xfffb || c >= 0xe0000 && c <= 0xe007f
}

// brief shortens a text to so many characters.
func brief(text string, most int) string {
	if len(text) <= most || utf8.RuneCountInString(text) <= most {
		return text
	}
	n := 0
	for i := range text {
		if n == most-1 {
			return text[:i] + "…"
		}
		n++
	}
	return text
}
