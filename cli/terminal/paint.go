package terminal

// Clock is how people read the time of a line.
const Clock = "15:04:05.000"

// Painter puts colours around a text, or does not.
type Painter bool

func (p Painter) in(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Faint is for what matters least.
func (p Painter) Faint(text string) string { return p.in("2", text) }

// Bold is for what matters most.
func (p Painter) Bold(text string) string { return p.in("1", text) }

// Good is for what went well.
func (p Painter) Good(text string) string { return p.in("32", text) }

// Bad is for what went wrong.
func (p Painter) Bad(text string) string { return p.in("31", text) }

// Node gives each node a colour of its own, as long as there are few.
func (p Painter) Node(index int, text string) string {
	return p.in([]string{"36", "35", "34", "33"}[index%4], text)
}
