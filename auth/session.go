package auth

import (
	"context"
	"net/http"
	"net/url"
)

// identityKey is the key of a client's identity in a context.
type identityKey struct{}

// NewContext returns a context with the identity of a client.
func NewContext(ctx context.Context, who *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, who)
}

// FromContext returns the identity of the client of a request; nil if it has not authenticated.
func FromContext(ctx context.Context) *Identity {
	who, _ := ctx.Value(identityKey{}).(*Identity)
	return who
}

// SessionCookie is the name of the cookie that keeps the token of a person who has logged in with a browser. Browsers
// accept the name only from this host, with TLS or on loopback, for all paths.
const SessionCookie = "__Host-posta"

// SetSession has the browser keep a token until it is closed. Scripts cannot read it, and pages of other sites cannot send
// it with a request that changes something. The caller has checked the token. It is escaped, since a token of a file may
// have characters that no cookie can have.
func SetSession(w http.ResponseWriter, token string) {
	http.SetCookie(w, sessionCookie(url.PathEscape(token), 0))
}

// EndSession has the browser forget the token.
func EndSession(w http.ResponseWriter) { http.SetCookie(w, sessionCookie("", -1)) }

func sessionCookie(token string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: SessionCookie, Value: token, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// SessionToken returns the token in the cookie of a request; "" without one, or with more than one.
func SessionToken(r *http.Request) string {
	cookies := r.CookiesNamed(SessionCookie)
	if len(cookies) != 1 {
		return ""
	}
	token, err := url.PathUnescape(cookies[0].Value)
	if err != nil {
		return ""
	}
	return token
}
