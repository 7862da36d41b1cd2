package wire_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// The transcripts in testdata are dialogues: lines with → are sent by the client,
// lines with ← by the server, and what stands in parentheses happens besides. The
// tests of package node play them; here they are held to the parser and to
// docs/wire.md, which shows each of them.

var update = flag.Bool("update", false, "write the transcripts into docs/wire.md")

const wirePage = "../docs/wire.md"

// transcriptBlock is a fenced block of the page with the comment that names its file.
var transcriptBlock = regexp.MustCompile("(?ms)^<!-- wire/testdata/([a-z-]+\\.txt) -->\n```text\n(.*?)^```$")

// transcripts reads all transcripts by their file's name.
func transcripts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no transcripts in testdata: %v", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	return texts
}

func TestThePageShowsEveryTranscriptOnce(t *testing.T) {
	t.Parallel()
	texts := transcripts(t)
	page, err := os.ReadFile(wirePage)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		page = transcriptBlock.ReplaceAllFunc(page, func(block []byte) []byte {
			name := string(transcriptBlock.FindSubmatch(block)[1])
			return []byte("<!-- wire/testdata/" + name + " -->\n```text\n" + texts[name] + "```")
		})
		if err := os.WriteFile(wirePage, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shown := map[string]bool{}
	for _, block := range transcriptBlock.FindAllStringSubmatch(string(page), -1) {
		name, text := block[1], block[2]
		if shown[name] {
			t.Errorf("%s shows testdata/%s twice", wirePage, name)
		}
		if text != texts[name] {
			t.Errorf("%s does not show testdata/%s as it is: run go test ./wire -run Transcript -update", wirePage, name)
		}
		shown[name] = true
	}
	for name := range texts {
		if !shown[name] {
			t.Errorf("%s does not show testdata/%s", wirePage, name)
		}
	}
	if arrows := strings.Count(string(page), "\n→"); arrows != strings.Count(strings.Join(values(texts), ""), "→ ") {
		t.Errorf("%s has a dialogue that is no transcript in testdata", wirePage)
	}
}

func values(texts map[string]string) (list []string) {
	for _, text := range texts {
		list = append(list, "\n"+text)
	}
	return list
}

func TestEveryReplyOfTheTranscriptsIsOne(t *testing.T) {
	t.Parallel()
	for name, text := range transcripts(t) {
		for line := range strings.Lines(text) {
			line, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "← ")
			if !found {
				continue
			}
			// An ellipsis outside of strings stands for a number or for members.
			full := strings.NewReplacer(`:…`, `:0`, `{…}`, `{}`).Replace(line)
			var reply wire.Reply
			if err := reply.Parse([]byte(full)); err != nil {
				t.Errorf("%s: %s: %v", name, line, err)
			}
			if reply.Status == wire.StatusError && !slices.Contains(task.Codes(), reply.Code) {
				t.Errorf("%s: %s: the code is none of Posta's", name, line)
			}
		}
	}
}

// TestWhatTheParserRefusesReadsAsInTheTranscripts renders the refusals of the
// parser; they depend on nothing but the line.
func TestWhatTheParserRefusesReadsAsInTheTranscripts(t *testing.T) {
	t.Parallel()
	refused := 0
	for name, text := range transcripts(t) {
		for line := range strings.Lines(text) {
			sent, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "→ ")
			if !found {
				continue
			}
			var request wire.Request
			refusal := request.Parse([]byte(sent), wire.OpRun)
			if refusal == nil {
				refusal = request.Validate()
			}
			if refusal == nil {
				continue
			}
			refused++
			want := line + "← " + string(wire.AppendError(nil, request.ID, refusal))
			if !strings.Contains(text, want) {
				t.Errorf("%s does not have\n%s", name, want)
			}
		}
	}
	if refused == 0 {
		t.Error("the transcripts have no refusal")
	}
}
