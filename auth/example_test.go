package auth_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/posta-tasks/posta/auth"
)

// A token file names who may come in. It may hold the digest of a token in its place,
// as printf %s TOKEN | sha256sum prints it.
func ExampleLoadTokens() {
	folder, err := os.MkdirTemp("", "posta")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "tokens")
	const text = `# who may come in
ana   correct-horse-battery
web   sha256:2f77668a9dfbf8d5848b9eeb4a7145ca94c6ed9236e4a773f6dcafa5132b2f91
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	tokens, err := auth.LoadTokens(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	ana := tokens.Check([]byte("correct-horse-battery"))
	fmt.Println(ana.Name, ana.Scopes())
	fmt.Println(tokens.Check([]byte("a-guess")) == nil)
	// Output:
	// ana [all]
	// true
}
