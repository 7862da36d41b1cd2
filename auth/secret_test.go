package auth_test

import (
	"strings"
	"testing"

	"github.com/posta-tasks/posta/auth"
)

func TestTheOwnTokenIsTheFirstOfItsFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		anaToken:                                anaToken,
		"\n# mine\nana " + anaToken + "\nben x": anaToken,
		"":                                      "holds no token",
		"# nothing\n":                           "holds no token",
		"ana " + hashed(anaToken):               "the token itself is needed",
		"ana " + anaToken + " x":                "3 words",
		"ana short":                             "5 bytes",
		strings.Repeat("x", 1<<17):              "too long",
	} {
		token, err := auth.LoadToken(write(t, text))
		if err == nil && token != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %q, %v", text, token, err)
		}
		if err != nil && strings.Contains(err.Error(), anaToken) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}
