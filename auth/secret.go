package auth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// LoadToken reads the token that a program presents itself: the first line that is not blank and does not begin with #, as
// `TOKEN` or `NAME TOKEN`. So the file may be a token file, if its first token is not a digest. The rules for the file and
// for errors are those of LoadTokens.
func LoadToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer file.Close()
	if err := checkFile(file, path); err != nil {
		return "", err
	}
	token, err := firstToken(file)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", path, err)
	}
	return token, nil
}

func firstToken(r io.Reader) (string, error) {
	scanner := bufio.NewScanner(io.LimitReader(r, maxFileBytes))
	for scanner.Scan() {
		words := strings.Fields(scanner.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		token := words[len(words)-1]
		switch {
		case len(words) > 2:
			return "", fmt.Errorf("its first line has %d words, want TOKEN or NAME TOKEN", len(words))
		case strings.HasPrefix(token, hashedPrefix):
			return "", errors.New("its first line has the digest of a token, and the token itself is needed")
		case len(token) < minTokenBytes || len(token) > maxTokenBytes:
			return "", fmt.Errorf("its token has %d bytes, %d to %d are allowed", len(token), minTokenBytes, maxTokenBytes)
		}
		return token, nil
	}
	if err := scanner.Err(); err != nil {
		return "", err
	}
	return "", errors.New("it holds no token")
}
