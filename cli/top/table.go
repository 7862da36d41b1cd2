package top

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
)

// Moods say how a row is painted. Its words say the same.
const (
	moodBad  = "bad"
	moodGood = "good"
)

// column is a column of a section.
type column struct {
	title       string
	least, most int  // its width; most 0: always least
	right       bool // numbers
	wide        bool // only on a wide screen
	last        bool // takes the rest of the line
}

// section is a table with a title.
type section struct {
	title    string
	columns  []column
	cells    [][]string
	moods    []string
	selected int // the index of the selected row, or -1
	focused  bool
	rows     int    // how many rows are shown
	margin   string // in front of rows that are not selected
}

// newSection returns an empty section. The title of its first column is that of the section.
func newSection(title string, columns ...column) *section {
	return &section{title: title, columns: columns, selected: -1, margin: "  "}
}

// add adds a row. The cells may contain anything.
func (s *section) add(mood string, cells ...string) {
	for i, cell := range cells {
		cells[i] = terminal.Printable(strings.TrimSpace(cell))
	}
	s.cells, s.moods = append(s.cells, cells), append(s.moods, mood)
}

// share gives each section a part of the lines: each gets its title, and then each in turn gets a row until it needs
// no more.
func share(sections []*section, lines int) []*section {
	left := lines - len(sections)
	for given := true; given && left > 0; {
		given = false
		for i := len(sections) - 1; i >= 0 && left > 0; i-- { // tasks and queues matter most
			if s := sections[i]; s.rows < len(s.cells) {
				s.rows, left, given = s.rows+1, left-1, true
			}
		}
	}
	return sections
}

// lines returns the title and the rows that are shown. The selected row is among them.
func (s *section) lines(width int, paint terminal.Painter) []string {
	from := 0
	if s.rows < len(s.cells) {
		from = min(max(0, s.selected-s.rows/2), len(s.cells)-s.rows)
	}
	title := fmt.Sprintf("%s %d", s.title, len(s.cells))
	if s.rows < len(s.cells) && s.rows > 0 {
		title = fmt.Sprintf("%s %d-%d/%d", s.title, from+1, from+s.rows, len(s.cells))
	}
	titles := []string{title}
	for _, c := range s.columns[1:] {
		titles = append(titles, c.title)
	}
	widths := s.widths(width)
	list := []string{paint.Bold(s.line(titles, widths, s.margin, width))}
	for i := from; i < from+s.rows; i++ {
		mark := s.margin
		if i == s.selected {
			mark = "· "
			if s.focused {
				mark = "> "
			}
		}
		line := s.line(s.cells[i], widths, mark, width)
		switch {
		case i == s.selected && s.focused:
			if paint { // a bar over the whole line
				line = terminal.Pad(line, width)
			}
			line = paint.Selected(line)
		case s.moods[i] == moodBad:
			line = paint.Bad(line)
		case s.moods[i] == moodGood:
			line = paint.Good(line)
		}
		list = append(list, line)
	}
	return list
}

// line returns one row.
func (s *section) line(cells []string, widths []int, mark string, width int) string {
	text := mark
	for i, cell := range cells {
		switch {
		case widths[i] == 0:
			continue
		case s.columns[i].right:
			cell = terminal.Fit(cell, widths[i])
			text += strings.Repeat(" ", widths[i]-terminal.Columns(cell)) + cell + " "
		default:
			text += terminal.Pad(cell, widths[i]) + " "
		}
	}
	return terminal.Fit(strings.TrimRight(text, " "), width)
}

// widths returns the widths of the columns; 0 means that a column is not shown. Columns grow, from the left, as far as
// their cells need it.
func (s *section) widths(width int) []int {
	widths, left := make([]int, len(s.columns)), width-len(s.margin)
	for i, c := range s.columns {
		if c.least > 0 && (!c.wide || width >= wideScreen) {
			widths[i] = c.least
			left -= c.least + 1
		}
	}
	for i, c := range s.columns {
		if widths[i] == 0 {
			continue
		}
		most := c.most
		if c.last {
			most = math.MaxInt
		}
		for _, row := range s.cells {
			grow := min(terminal.Columns(row[i]), most) - widths[i]
			if grow = min(grow, left); grow > 0 {
				widths[i], left = widths[i]+grow, left-grow
			}
		}
	}
	return widths
}

// slots returns how many slots are in use, as a bar and as a number.
func slots(used, all int) string {
	const cells = 8
	full := 0
	if all > 0 {
		full = min(max(used, 0)*cells/all, cells)
	}
	if used > 0 && full == 0 {
		full = 1
	}
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %d/%d", used, all)
}

// short formats a count in at most five characters: 9999, 12.3k, 4.5M.
func short(n float64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%.0f", n)
	case n < 99_950:
		return fmt.Sprintf("%.1fk", n/1e3)
	case n < 999_500:
		return fmt.Sprintf("%.0fk", n/1e3)
	case n < 99_950_000:
		return fmt.Sprintf("%.1fM", n/1e6)
	}
	return fmt.Sprintf("%.0fM", n/1e6)
}

// rate formats a rate per second.
func rate(perSecond float64) string {
	if perSecond < 999.5 {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return short(perSecond)
}

// age formats a duration with one unit: 119s, 14m, 47h, 3d.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// sparkline draws the last values in a number of columns, from 0 to the largest of them.
func sparkline(values []float64, columns int) string {
	if columns <= 0 {
		return ""
	}
	values = values[max(0, len(values)-columns):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	bars, text := []rune("▁▂▃▄▅▆▇█"), make([]rune, 0, columns)
	for _, v := range values {
		at := 0
		if most > 0 && v > 0 {
			at = min(int(v/most*float64(len(bars)-1)+0.5), len(bars)-1)
		}
		text = append(text, bars[at])
	}
	return string(text)
}
