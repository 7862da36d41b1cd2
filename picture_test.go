package posta_test

import (
	"slices"
	"testing"
)

// The tests on this page check the readers of Markdown and of pictures, on which
// the other tests at the root rely.

func TestAPageIsTakenApart(t *testing.T) {
	t.Parallel()
	p, err := parsePage("# A\n\ntext [b](c.md)\n\n<!-- run: no -->\n```sh\n# no heading [no](link)\n```\n\n" +
		"```text\nout\n```\nprose\n```json\n{}\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.headings) != 1 || p.headings[0] != (heading{line: 1, level: 1, text: "A"}) {
		t.Errorf("headings %+v", p.headings)
	}
	if len(p.links) != 1 || p.links[0] != (link{line: 3, text: "b", target: "c.md"}) {
		t.Errorf("links %+v", p.links)
	}
	want := []block{
		{line: 6, language: "sh", note: "run: no", text: "# no heading [no](link)\n"},
		{line: 10, language: "text", text: "out\n", adjacent: true},
		{line: 14, language: "json", text: "{}\n"},
	}
	if !slices.Equal(p.blocks, want) {
		t.Errorf("blocks %+v, want %+v", p.blocks, want)
	}
}

func TestAnOpenBlockIsNoticed(t *testing.T) {
	t.Parallel()
	if _, err := parsePage("```sh\nls\n"); err == nil {
		t.Error("a block without an end was read without a complaint")
	}
}

func TestBothPictureLanguagesAreReadAlike(t *testing.T) {
	t.Parallel()
	mermaid, err := parseMermaid("flowchart LR\n  a[\"A<br/>one\"] --> b & c\n  b(\"B\") -->|TCP| c[(\"C\")]\n")
	if err != nil {
		t.Fatal(err)
	}
	plant, err := parsePlantUML("@startuml\ncomponent \"A\\none\" as a\nnode \"B\" as b\ndatabase \"C\" as c\n" +
		"a --> b\na --> c\nb --> c : TCP\n@enduml\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A one --> B", "A one --> C", "B --> C"}
	for name, d := range map[string]diagram{"Mermaid": mermaid, "PlantUML": plant} {
		if got := d.arrowsByLabel(); !slices.Equal(got, want) {
			t.Errorf("%s: arrows %q, want %q", name, got, want)
		}
		if got := d.parts(); !slices.Equal(got, []string{"A one", "B", "C"}) {
			t.Errorf("%s: parts %q", name, got)
		}
	}
}

func TestAPictureWithoutArrowsIsNoticed(t *testing.T) {
	t.Parallel()
	if _, err := parseMermaid("flowchart LR\n  a ==> b\n"); err == nil {
		t.Error("a picture whose arrows cannot be read passes for one without arrows")
	}
}
