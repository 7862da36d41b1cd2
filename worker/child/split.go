package child

import (
	"errors"
	"fmt"
	"strings"
)

// needsShell has the characters that only a shell gives a meaning.
const needsShell = "|&;<>()$`"

// Split splits a command line into words as a shell does: at blanks, except between quotes and behind a backslash. No
// shell runs it, so a character that would need one is refused.
func Split(line string) (words []string, err error) {
	var word strings.Builder
	inWord := false
	for at := 0; at < len(line); at++ {
		switch c := line[at]; {
		case c == 0:
			return nil, errors.New("it has a NUL in it")
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case c == '\'':
			text, _, closed := strings.Cut(line[at+1:], "'")
			if !closed {
				return nil, errors.New("a quote ' is not closed")
			}
			word.WriteString(text)
			at += len(text) + 1
			inWord = true
		case c == '"':
			n, err := quoted(&word, line[at+1:])
			if err != nil {
				return nil, err
			}
			at += n
			inWord = true
		case c == '\\':
			if at++; at == len(line) {
				return nil, errors.New("it ends with a backslash")
			}
			word.WriteByte(line[at])
			inWord = true
		case strings.IndexByte(needsShell, c) >= 0:
			return nil, unshelled(c)
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("it names no program")
	}
	return words, nil
}

// quoted reads a text up to the closing quote ", and returns how long it is with that quote.
func quoted(word *strings.Builder, text string) (int, error) {
	for at := 0; at < len(text); at++ {
		switch c := text[at]; {
		case c == '"':
			return at + 1, nil
		case c == '\\' && at+1 < len(text) && strings.IndexByte("\"\\$`", text[at+1]) >= 0:
			at++
			word.WriteByte(text[at])
		case c == '$' || c == '`':
			return 0, unshelled(c)
		default:
			word.WriteByte(c)
		}
	}
	return 0, errors.New("a quote \" is not closed")
}

func unshelled(c byte) error {
	return fmt.Errorf("%c would need a shell, and none runs it: put it between quotes '…', or give the whole line to sh -c '…'", c)
}
