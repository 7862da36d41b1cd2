package terminal

// Clock formats the time of a line for people.
const Clock = "15:04:05.000"

// Painter adds colours to a text, or leaves it unchanged.
type Painter bool

func (p Painter) in(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Faint is for less important text.
func (p Painter) Faint(text string) string { return p.in("2", text) }

// Bold is for the most important text.
func (p Painter) Bold(text string) string { return p.in("1", text) }

// Good is for success.
func (p Painter) Good(text string) string { return p.in("32", text) }

// Bad is for failure.
func (p Painter) Bad(text string) string { return p.in("31", text) }

// Node returns the name of a node in its colour. A few nodes get different colours.
func (p Painter) Node(index int, text string) string {
	return p.in([]string{"36", "35", "34", "33"}[index%4], text)
}

// Selected is for the row that keys apply to.
func (p Painter) Selected(text string) string { return p.in("7", text) }
