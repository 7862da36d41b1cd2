package dashboard

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/posta-tasks/posta/task"
)

const (
	// maxNodes is how many values of a body are shown as a tree, and maxTree the largest body that is.
	maxNodes, maxTree = 1000, 256 << 10
	// maxText is how many characters of one text are shown.
	maxText = 2000
	// maxRaw is how many bytes of a larger body are shown.
	maxRaw = 8 << 10
)

// shown is a payload or a result as a page shows it.
type shown struct {
	Has  bool
	Size int64
	Tree *value // nil: it is too large, and Raw has its beginning
	Raw  string
	Cut  bool // only the beginning is shown
}

// showBody returns what a page shows of a body.
func showBody(body task.Body) shown {
	switch {
	case body.Inline == nil && body.IsBlob():
		return shown{Has: true, Size: body.Size, Cut: true}
	case body.Inline == nil:
		return shown{}
	}
	s := shown{Has: true, Size: int64(len(body.Inline))}
	if len(body.Inline) <= maxTree {
		s.Tree = parseTree(body.Inline)
	}
	if s.Tree == nil {
		s.Raw, s.Cut = visible(strings.ToValidUTF8(string(body.Inline[:min(len(body.Inline), maxRaw)]), "�")), len(body.Inline) > maxRaw
	}
	return s
}

// value is a value of JSON. Numbers are shown as they were sent, since a float64 would change large ones.
type value struct {
	Key   string // of a member of an object
	Named bool
	Kind  string // object, array, text, number or word
	Text  string // of the last three
	Items []*value
	Cut   bool // the text is longer
}

// Open reports whether a value is short enough to be shown unfolded.
func (v *value) Open() bool { return len(v.Items) <= 20 }

// parseTree parses a body; nil if it has too many values, or is not JSON.
func parseTree(raw []byte) *value {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	left := maxNodes
	return readValue(decoder, &left, 0)
}

func readValue(decoder *json.Decoder, left *int, depth int) *value {
	token, err := decoder.Token()
	*left--
	if err != nil || *left < 0 || depth > task.MaxDepth {
		return nil
	}
	switch token := token.(type) {
	case json.Delim:
		v := &value{Kind: "array"}
		if token == '{' {
			v.Kind = "object"
		}
		for decoder.More() {
			key, named := "", v.Kind == "object"
			if named {
				name, err := decoder.Token()
				if err != nil {
					return nil
				}
				key, _ = name.(string)
			}
			item := readValue(decoder, left, depth+1)
			if item == nil {
				return nil
			}
			item.Key, item.Named = visible(brief(key, 200)), named
			v.Items = append(v.Items, item)
		}
		if _, err := decoder.Token(); err != nil { // the closing bracket
			return nil
		}
		return v
	case string:
		text := brief(token, maxText)
		return &value{Kind: "text", Text: `"` + visible(text) + `"`, Cut: len(text) != len(token)}
	case json.Number:
		return &value{Kind: "number", Text: brief(token.String(), maxText)}
	case bool:
		return &value{Kind: "word", Text: strconv.FormatBool(token)}
	}
	return &value{Kind: "word", Text: "null"}
}
