package child

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"
)

const (
	// longestLine is how many bytes of a line of standard error are logged. The rest of the line is left out.
	longestLine = 4 << 10
	// linesMost is how many lines of a child are logged in a second. The others are counted.
	linesMost = 100
)

// report logs the standard error of a child, line by line. It always reads on, so that the child is not blocked.
func report(from io.Reader, secrets []string, logger *slog.Logger) {
	lines := bufio.NewReaderSize(from, longestLine)
	var second time.Time
	said, left := 0, 0
	tellLeft := func() {
		if left > 0 {
			logger.Warn("lines of the worker were left out", "lines", left)
		}
		said, left = 0, 0
	}
	defer tellLeft()
	longest := 0
	for _, secret := range secrets {
		longest = max(longest, min(len(secret), longestLine))
	}
	for {
		line, err := lines.ReadSlice('\n')
		text := strings.TrimRight(strings.ToValidUTF8(string(line), "\uFFFD"), "\r\n")
		if errors.Is(err, bufio.ErrBufferFull) { // the end of what is shown may be the beginning of a secret
			text = strings.ToValidUTF8(text[:max(0, len(text)-longest)], "")
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if now := time.Now(); now.Sub(second) >= time.Second {
			tellLeft()
			second = now
		}
		switch {
		case text == "":
		case said >= linesMost:
			left++
		default:
			said++
			for _, secret := range secrets {
				text = strings.ReplaceAll(text, secret, "[secret]")
			}
			logger.Info("the worker says", "text", text)
		}
		if err != nil {
			return
		}
	}
}
