package posta_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// page is a Markdown file, taken apart as far as the tests need it.
type page struct {
	path     string
	headings []heading
	blocks   []block
	links    []link
}

type heading struct {
	line, level int
	text        string
}

// block is a fenced piece of code.
type block struct {
	line     int    // of the opening fence, counted from 1
	language string // what follows the fence
	note     string // the HTML comment on the line before the fence: `<!-- note -->`
	text     string // with a newline at its end
	adjacent bool   // only blank lines and notes stand between it and the block before
}

type link struct {
	line         int
	text, target string
}

var (
	headingLine = regexp.MustCompile(`^(#{1,6}) (.+)$`)
	noteLine    = regexp.MustCompile(`^<!-- (.+) -->$`)
	linkText    = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)
)

func readPage(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePage(string(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	p.path = name
	return p
}

// parsePage reads headings, fenced blocks and links; nothing inside a block counts
// as a heading or a link.
func parsePage(text string) (page, error) {
	var p page
	var open *block
	note, prose := "", true
	for i, line := range strings.Split(text, "\n") {
		switch {
		case open != nil && line == "```":
			p.blocks = append(p.blocks, *open)
			open, note, prose = nil, "", false
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```"):
			open = &block{line: i + 1, language: line[3:], note: note, adjacent: !prose}
		case noteLine.MatchString(line):
			note = noteLine.FindStringSubmatch(line)[1]
		case strings.TrimSpace(line) != "":
			note, prose = "", true
			p.readProse(i+1, line)
		}
	}
	if open != nil {
		return p, fmt.Errorf("the block opened on line %d is not closed", open.line)
	}
	return p, nil
}

func (p *page) readProse(number int, line string) {
	if m := headingLine.FindStringSubmatch(line); m != nil {
		p.headings = append(p.headings, heading{line: number, level: len(m[1]), text: m[2]})
	}
	for _, m := range linkText.FindAllStringSubmatch(line, -1) {
		p.links = append(p.links, link{line: number, text: m[1], target: m[2]})
	}
}

// diagram is the part of Mermaid and of PlantUML that our pictures use: boxes
// with an id and a label, and arrows between ids.
type diagram struct {
	labels map[string]string // id → label; an id without a box of its own labels itself
	arrows [][2]string       // ids
}

var (
	mermaidBox   = regexp.MustCompile(`(\w+)(?:\[\(?|\(\[?)"([^"]+)"(?:\)?\]|\]?\))`)
	mermaidArrow = regexp.MustCompile(`^(.+?)\s+(?:-->|-\.->|<-->)(?:\|[^|]*\|)?\s+(.+)$`)
	plantBox     = regexp.MustCompile(`^(?:actor|component|node|database|queue|rectangle|package|cloud) "([^"]+)" as (\w+)`)
	plantArrow   = regexp.MustCompile(`^(\w+) --> (\w+)`)
)

// firstMermaid reads the first Mermaid picture of a page.
func firstMermaid(text string) (diagram, error) {
	p, err := parsePage(text)
	if err != nil {
		return diagram{}, err
	}
	for _, b := range p.blocks {
		if b.language == "mermaid" {
			return parseMermaid(b.text)
		}
	}
	return diagram{}, errors.New("no mermaid block")
}

func parseMermaid(text string) (diagram, error) {
	d := diagram{labels: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, m := range mermaidBox.FindAllStringSubmatch(line, -1) {
			d.labels[m[1]] = plainLabel(m[2])
		}
		line = mermaidBox.ReplaceAllString(line, "$1")
		m := mermaidArrow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for _, from := range strings.Split(m[1], " & ") {
			for _, to := range strings.Split(m[2], " & ") {
				d.arrows = append(d.arrows, [2]string{strings.TrimSpace(from), strings.TrimSpace(to)})
			}
		}
	}
	return d, d.check()
}

func parsePlantUML(text string) (diagram, error) {
	d := diagram{labels: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := plantBox.FindStringSubmatch(line); m != nil {
			d.labels[m[2]] = plainLabel(m[1])
		}
		if m := plantArrow.FindStringSubmatch(line); m != nil {
			d.arrows = append(d.arrows, [2]string{m[1], m[2]})
		}
	}
	return d, d.check()
}

// plainLabel writes a line break in a label as a space, whichever way the
// language has it.
func plainLabel(label string) string {
	return strings.NewReplacer("<br/>", " ", `\n`, " ").Replace(label)
}

func (d diagram) check() error {
	if len(d.arrows) == 0 {
		return errors.New("the picture has no arrow that the test can read")
	}
	return nil
}

func (d diagram) label(id string) string {
	if label, ok := d.labels[id]; ok {
		return label
	}
	return id
}

// arrowsByLabel returns the arrows as "from --> to", sorted, each once.
func (d diagram) arrowsByLabel() []string {
	var list []string
	for _, a := range d.arrows {
		list = append(list, d.label(a[0])+" --> "+d.label(a[1]))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// parts returns the labels of all boxes, sorted.
func (d diagram) parts() []string {
	var list []string
	for id := range d.labels {
		list = append(list, d.label(id))
	}
	slices.Sort(list)
	return list
}
