package auth

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// The limits of a token file. A check compares with every token, so their number is
// limited. A token must fit the 4 KiB line in which a client presents it.
const (
	minTokenBytes = 16
	maxTokenBytes = 1024
	maxNameBytes  = 64
	maxTokens     = 1000
	maxFileBytes  = 2 << 20
)

// hashedPrefix marks a token of which the file holds only the digest.
const hashedPrefix = "sha256:"

// LoadTokens reads a token file. Each line has one token, as `NAME TOKEN` or as
// `NAME sha256:HEX` with the SHA-256 digest of the token in hexadecimal. Grants may follow,
// such as `work:resize`; without any, or with `all`, the token may do everything. Blank lines
// and lines that begin with # are skipped. A name is 1 to 64 bytes of letters, digits, dots,
// hyphens and underscores. A token is 16 to 1,024 printable ASCII bytes without a space. A
// file has at most 1,000 tokens.
//
// LoadTokens refuses a file that everybody can read, or that others than its owner can
// change. The group may read it, since Kubernetes mounts secrets for the group of a pod. It
// also refuses a file with an invalid line, a duplicate name or token, or no token. Errors
// name the file and the line, and never contain the line.
func LoadTokens(path string) (*Tokens, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	defer file.Close()
	if err := checkFile(file, path); err != nil {
		return nil, err
	}
	tokens, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return tokens, nil
}

// checkFile checks the open file, not its path, so that the file cannot be exchanged in
// between.
func checkFile(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("token file %s: it is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o037 != 0 {
		return fmt.Errorf("token file %s: everybody can read it, or its group can change it (mode %#o): run chmod 600 %s", path, mode, path)
	}
	if info.Size() > maxFileBytes {
		return fmt.Errorf("token file %s: it has %d bytes, at most %d are allowed", path, info.Size(), maxFileBytes)
	}
	return nil
}

// parse reads the lines of a token file.
func parse(r io.Reader) (*Tokens, error) {
	tokens := &Tokens{}
	scanner := bufio.NewScanner(io.LimitReader(r, maxFileBytes))
	number := 0
	for scanner.Scan() {
		number++
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := tokens.add(line, number); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: it is too long for NAME TOKEN", number+1)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", number, err)
	}
	if len(tokens.entries) == 0 {
		return nil, errors.New("it holds no token, so nobody could come in: add a line NAME TOKEN")
	}
	return tokens, nil
}

// add adds the token of one line. Its errors do not contain the name either: if the two
// words are in the wrong order, that is the token.
func (t *Tokens) add(line string, number int) error {
	words := strings.Fields(line)
	if len(words) < 2 {
		return fmt.Errorf("it has %d words, want at least two: NAME TOKEN or NAME %sHEX", len(words), hashedPrefix)
	}
	if err := checkName(words[0]); err != nil {
		return err
	}
	digest, err := digestOf(words[1])
	if err != nil {
		return err
	}
	grants, err := grantsOf(words[2:])
	if err != nil {
		return err
	}
	if len(t.entries) == maxTokens {
		return fmt.Errorf("it is one token too many: a file has at most %d", maxTokens)
	}
	for i := range t.entries {
		if t.entries[i].who.Name == words[0] {
			return fmt.Errorf("it has the same name as line %d", t.entries[i].line)
		}
		if t.entries[i].digest == digest {
			return fmt.Errorf("it has the same token as line %d", t.entries[i].line)
		}
	}
	who := NewIdentity(Identity{Name: words[0], Subject: tokenOwner + words[0]}, grants, nil)
	t.entries = append(t.entries, entry{digest: digest, who: who, line: number})
	return nil
}

// Tasks of clients whose owner is not the subject of a pass have owners with these prefixes, which no pass may have.
const (
	tokenOwner       = "token:"
	certificateOwner = "cert:"
)

// grantsOf parses the words behind a token. The error does not contain them: one may be a token.
func grantsOf(words []string) ([]Grant, error) {
	if len(words) == 0 || len(words) == 1 && words[0] == "all" {
		return []Grant{everything()}, nil
	}
	if len(words) > maxGrants {
		return nil, fmt.Errorf("it has %d grants, at most %d are allowed", len(words), maxGrants)
	}
	var grants []Grant
	for i, word := range words {
		g, err := ParseGrant(word)
		if err != nil {
			return nil, fmt.Errorf("word %d is not a grant: behind the token may stand all, or grants such as work:resize and see:* (a comment has a line of its own)", i+3)
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// checkName accepts only names that are readable in a log line and in a metric.
func checkName(name string) error {
	if len(name) > maxNameBytes {
		return fmt.Errorf("its name has %d bytes, at most %d are allowed", len(name), maxNameBytes)
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '-' && c != '_' {
			return errors.New("its name may have only letters, digits, dots, hyphens and underscores")
		}
	}
	return nil
}

// digestOf returns the digest of the second word, which is a token or a digest.
func digestOf(word string) (digest [sha256.Size]byte, err error) {
	if text, hashed := strings.CutPrefix(word, hashedPrefix); hashed {
		decoded, err := hex.DecodeString(text)
		if err != nil || len(decoded) != sha256.Size {
			return digest, fmt.Errorf("%s needs %d hexadecimal digits", hashedPrefix, 2*sha256.Size)
		}
		digest = [sha256.Size]byte(decoded)
		if digest == sha256.Sum256(nil) {
			return digest, errors.New("its digest is that of an empty token")
		}
		return digest, nil
	}
	if len(word) < minTokenBytes {
		return digest, fmt.Errorf("its token has %d bytes, at least %d are needed: head -c 24 /dev/urandom | base64 makes one", len(word), minTokenBytes)
	}
	if len(word) > maxTokenBytes {
		return digest, fmt.Errorf("its token has %d bytes, at most %d are allowed", len(word), maxTokenBytes)
	}
	for _, c := range []byte(word) {
		if c <= ' ' || c > '~' {
			return digest, errors.New("its token may have only printable ASCII characters, since it has to fit an HTTP header")
		}
	}
	return sha256.Sum256([]byte(word)), nil
}
