package auth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/posta-tasks/posta/auth"
)

func TestASessionKeepsEveryTokenThatAFileMayHave(t *testing.T) {
	t.Parallel()
	printable := ""
	for c := byte('!'); c <= '~'; c++ {
		printable += string(c)
	}
	for _, token := range []string{printable, "posta_mfrggzdfmztw_abc", "eyJhbGciOi.eyJzdWIi._-x", "a;b,c\"d%41\\ae+f/g=", "%zz correct"} {
		w := httptest.NewRecorder()
		auth.SetSession(w, token)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for _, cookie := range w.Result().Cookies() {
			r.AddCookie(cookie)
		}
		if got := auth.SessionToken(r); got != token {
			t.Errorf("the session of %q has %q", token, got)
		}
	}
}
