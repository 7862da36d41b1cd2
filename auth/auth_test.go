package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/posta-tasks/posta/auth"
)

const (
	anaToken = "ana-0123456789abcdef"
	benToken = "ben-0123456789abcdef"
)

// write makes a token file that only its owner may read.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads a token file that must be in order.
func load(t *testing.T, text string) *auth.Tokens {
	t.Helper()
	tokens, err := auth.LoadTokens(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func hashed(token string) string {
	digest := sha256.Sum256([]byte(token))
	return "sha256:" + hex.EncodeToString(digest[:])
}

func TestAKnownTokenGivesItsName(t *testing.T) {
	t.Parallel()
	tokens := load(t, "# who may come in\n\nana "+anaToken+"\r\n\t ben\t"+hashed(benToken)+"  \n")
	if tokens.Len() != 2 {
		t.Errorf("Len() = %d, want 2", tokens.Len())
	}
	for token, name := range map[string]string{anaToken: "ana", benToken: "ben"} {
		id := tokens.Check([]byte(token))
		if id == nil || id.Name != name || id.Subject != "token:"+name || !slices.Equal(id.Scopes(), []string{"all"}) {
			t.Errorf("Check(%s's token) = %+v", name, id)
		}
	}
}

func TestAnUnknownTokenIsRefused(t *testing.T) {
	t.Parallel()
	tokens := load(t, "ana "+anaToken+"\nben "+hashed(benToken)+"\n")
	for _, token := range []string{"", " ", anaToken + " ", anaToken[:19], strings.ToUpper(anaToken), "ana", hashed(benToken), strings.Repeat("x", 1<<20)} {
		if id := tokens.Check([]byte(token)); id != nil {
			t.Errorf("Check(%.30q) = %+v; want it refused", token, id)
		}
	}
}

func TestALineOfTheTokenFileMayLimitItsToken(t *testing.T) {
	t.Parallel()
	tokens := load(t, "ana "+anaToken+" all\nben "+benToken+" work:resize* see:own\n")
	ana, ben := tokens.Check([]byte(anaToken)), tokens.Check([]byte(benToken))
	if !auth.Authorize(ana, auth.Manage, auth.Resource{}) {
		t.Error("all is not everything")
	}
	if got := ben.Scopes(); !slices.Equal(got, []string{"work:resize*", "see:own"}) {
		t.Errorf("scopes %q", got)
	}
	if !auth.Authorize(ben, auth.Work, auth.Resource{Action: "resize-2", Queue: "q"}) || auth.Authorize(ben, auth.Work, auth.Resource{Action: "mail"}) ||
		auth.Authorize(ben, auth.Run, auth.Resource{Action: "resize"}) || !auth.Authorize(ben, auth.See, auth.Resource{Owner: "token:ben"}) {
		t.Error("ben may do other things than the file says")
	}
}

func TestAWrongTokenFileIsRefusedByLine(t *testing.T) {
	t.Parallel()
	const secret = "do-not-tell-anybody-about-this"
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "n%d token-number-%08d\n", i, i)
	}
	tests := map[string]struct{ text, want string }{
		"nothing in it":        {"# nobody\n\n", "holds no token"},
		"one word":             {"# x\n" + secret + "\n", "line 2: it has 1 words"},
		"comment":              {"ana " + secret + " # comment\n", "line 1: word 3 is not a grant"},
		"grant and a token":    {"ana " + secret + " work:* " + secret, "line 1: word 4 is not a grant"},
		"all and a grant":      {"ana " + secret + " all work:*", "line 1: word 3 is not a grant"},
		"too many grants":      {"ana " + secret + strings.Repeat(" work:*", 65), "line 1: it has 65 grants, at most 64"},
		"short token":          {"ana " + anaToken + "\nben 0123456789abcde\n", "line 2: its token has 15 bytes, at least 16"},
		"long token":           {"ana " + strings.Repeat("x", 1025), "line 1: its token has 1025 bytes, at most 1024"},
		"the two exchanged":    {secret + " ana", "line 1: its token has 3 bytes"},
		"long name":            {strings.Repeat("n", 65) + " " + secret, "line 1: its name has 65 bytes, at most 64"},
		"name with a colon":    {"an:a " + secret, "line 1: its name may have only letters"},
		"not ASCII":            {"ana " + secret + "ñ", "line 1: its token may have only printable ASCII"},
		"control character":    {"ana " + secret + "\x00", "line 1: its token may have only printable ASCII"},
		"digest too short":     {"ana sha256:abcd", "line 1: sha256: needs 64 hexadecimal digits"},
		"digest not hex":       {"ana sha256:" + strings.Repeat("g", 64), "line 1: sha256: needs 64 hexadecimal digits"},
		"digest of nothing":    {"ana " + hashed(""), "line 1: its digest is that of an empty token"},
		"same name":            {"ana " + anaToken + "\n\nana " + benToken, "line 3: it has the same name as line 1"},
		"same token":           {"ana " + secret + "\nben " + secret, "line 2: it has the same token as line 1"},
		"same token, one hash": {"ana " + secret + "\nben " + hashed(secret), "line 2: it has the same token as line 1"},
		"too many":             {many.String(), "line 1001: it is one token too many: a file has at most 1000"},
		"endless line":         {"ana " + anaToken + "\nben " + strings.Repeat("x", 1<<17), "line 2: it is too long"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens, err := auth.LoadTokens(write(t, test.text))
			if err == nil || tokens != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), anaToken) {
				t.Errorf("the error tells a token: %v", err)
			}
		})
	}
}

func TestATokenFileThatEverybodyMayReadIsRefused(t *testing.T) {
	t.Parallel()
	path := write(t, "ana "+anaToken)
	for _, mode := range []os.FileMode{0o644, 0o604, 0o620, 0o660, 0o601, 0o610} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := auth.LoadTokens(path)
		if err == nil || !strings.Contains(err.Error(), "run chmod 600 "+path) {
			t.Errorf("mode %o: error %v, want one that names chmod 600", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o640, 0o440} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.LoadTokens(path); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestAPathThatIsNoFileIsRefused(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := auth.LoadTokens(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing file: error %v", err)
	}
	if _, err := auth.LoadTokens(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: error %v", err)
	}
}

func TestCheckIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	tokens := load(t, "ana "+anaToken+"\nben "+benToken)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if id := tokens.Check([]byte(benToken)); id == nil || id.Name != "ben" {
					t.Errorf("Check = %+v", id)
				}
			}
		})
	}
	group.Wait()
}

func TestCheckAllocatesNothing(t *testing.T) {
	tokens := load(t, "ana "+anaToken+"\nben "+benToken)
	token := []byte(benToken)
	if n := testing.AllocsPerRun(100, func() { tokens.Check(token) }); n != 0 {
		t.Errorf("%v allocations a check, want 0", n)
	}
}
