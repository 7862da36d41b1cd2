package cli

import (
	"context"
	"net"
	"net/http"
)

// bearer adds the token to each request, if there is one.
type bearer struct {
	http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.RoundTripper.RoundTrip(r)
}

// Web returns an HTTP client that sends every request to the target, and the start of the URLs for it.
func (t *target) Web() (web *http.Client, base string) {
	return &http.Client{Transport: bearer{&http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := t.connect(ctx)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		DisableKeepAlives: true,
	}, t.token}}, "http://" + t.Addr
}
