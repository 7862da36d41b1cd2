package dashboard

import (
	"fmt"
	"html"
	"html/template"
	"strconv"
	"strings"
)

// drawing is an SVG that grows by its methods. Its looks are in posta.css, since the policy of the pages allows no
// styles elsewhere. Texts are escaped here.
type drawing struct{ out strings.Builder }

// begin starts an SVG of a size, with the name that screen readers read.
func begin(width, height float64, name string) *drawing {
	return beginAs("img", width, height, name)
}

// beginAs is begin for an SVG with another role: one with links is a group.
func beginAs(role string, width, height float64, name string) *drawing {
	d := &drawing{}
	fmt.Fprintf(&d.out, `<svg viewBox="0 0 %s %s" role="%s" aria-label="%s">`, coord(width), coord(height), role, html.EscapeString(name))
	return d
}

// end returns the whole SVG.
func (d *drawing) end() template.HTML {
	d.out.WriteString("</svg>")
	return template.HTML(d.out.String()) //nolint:gosec // texts were escaped
}

func (d *drawing) rect(class string, x, y, w, h, r float64) {
	fmt.Fprintf(&d.out, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="%s"/>`, class, coord(x), coord(y), coord(max(0, w)), coord(max(0, h)), coord(r))
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&d.out, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, coord(x1), coord(y1), coord(x2), coord(y2))
}

func (d *drawing) path(class, data string) {
	fmt.Fprintf(&d.out, `<path class="%s" d="%s"/>`, class, data)
}

// label writes a text whose anchor is start, middle or end.
func (d *drawing) label(class string, x, y float64, anchor, text string) {
	fmt.Fprintf(&d.out, `<text class="%s" x="%s" y="%s" text-anchor="%s">%s</text>`, class, coord(x), coord(y), anchor, html.EscapeString(text))
}

// raw writes markup that has no text of clients.
func (d *drawing) raw(markup string) { d.out.WriteString(markup) }

// coord writes a coordinate with at most one decimal.
func coord(x float64) string {
	text := strconv.FormatFloat(x, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0")
}

// meter draws a bar that is filled to a share of 0 to 1. The number must be beside it as text.
func meter(share float64) template.HTML {
	d := &drawing{}
	d.raw(`<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">`)
	d.rect("", 0, 0, 100*min(1, max(0, share)), 6, 0)
	return d.end()
}

// spark draws small bars. The numbers must be beside it as text.
func spark(values []int) template.HTML {
	d, most := &drawing{}, 1
	for _, v := range values {
		most = max(most, v)
	}
	width := 92 / float64(max(1, len(values)))
	d.raw(`<svg class="spark" viewBox="0 0 92 24" aria-hidden="true">`)
	for i, v := range values {
		height := 1.0
		if v > 0 {
			height = 2 + 21*float64(v)/float64(most)
		}
		d.rect("", float64(i)*width+0.5, 24-height, width-1, height, 0.5)
	}
	return d.end()
}

// series is a line of a chart.
type series struct {
	Class, Name string
	Values      []float64
}

// chart draws series as areas on top of each other, the first one lowest, with an axis of time. label writes a value.
func chart(name string, list []series, from, to string, label func(float64) string) template.HTML {
	const width, height, left, bottom, top = 640.0, 176.0, 44.0, 20.0, 8.0
	count := 0
	for _, s := range list {
		count = max(count, len(s.Values))
	}
	sums, most := make([]float64, count), 0.0
	for _, s := range list {
		for i, v := range s.Values {
			sums[i] += v
			most = max(most, sums[i])
		}
	}
	scale := niceTop(most)
	x := func(i int) float64 { return left + (width-left)*float64(i)/float64(max(1, count-1)) }
	y := func(v float64) float64 { return top + (height-top-bottom)*(1-v/scale) }
	d := begin(width, height, name)
	for i := range 3 {
		v := scale * float64(i) / 2
		class := "grid"
		if i == 0 {
			class = "axis"
		}
		d.line(class, left, y(v), width, y(v))
		d.label("", left-8, y(v)+4, "end", label(v))
	}
	// The highest series is drawn first, so that where it adds nothing the one below it is seen.
	for k := len(list) - 1; k >= 0; k-- {
		values := list[k].Values
		upper, lower := strings.Builder{}, strings.Builder{}
		for i := range values {
			fmt.Fprintf(&upper, "%s%s %s", moveOrLine(i), coord(x(i)), coord(y(sums[i])))
		}
		empty := true
		for i := len(values) - 1; i >= 0; i-- {
			empty = empty && values[i] == 0
			sums[i] = max(0, sums[i]-values[i])
			fmt.Fprintf(&lower, "L%s %s", coord(x(i)), coord(y(sums[i])))
		}
		if !empty {
			d.raw(`<g class="` + list[k].Class + `">`)
			d.path("area", upper.String()+lower.String()+"Z")
			d.path("edge", upper.String())
			d.raw(`</g>`)
		}
	}
	d.label("", left, height-4, "start", from)
	d.label("", width, height-4, "end", to)
	return d.end()
}

func moveOrLine(i int) string {
	if i == 0 {
		return "M"
	}
	return "L"
}

// niceTop returns a round number that is not less than most.
func niceTop(most float64) float64 {
	if most <= 0 {
		return 1
	}
	unit := 1.0
	for unit*10 < most {
		unit *= 10
	}
	for unit > most {
		unit /= 10
	}
	for _, step := range []float64{1, 2, 4, 5, 10} {
		if unit*step >= most {
			return unit * step
		}
	}
	return unit * 10
}
