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

// Web returns an HTTP client that sends every request to the target over a connection of its own, and the start of the
// URLs for it. Behind a balancer each request may reach another node.
func (t *target) Web() (web *http.Client, base string) { return t.webClient(true) }

// SameWeb returns a client like that of Web. Its requests share one connection, and so reach the same node.
func (t *target) SameWeb() (web *http.Client, base string) { return t.webClient(false) }

func (t *target) webClient(fresh bool) (web *http.Client, base string) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := t.connect(ctx)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		DisableKeepAlives: fresh,
	}
	if !fresh {
		transport.MaxConnsPerHost = 1
	}
	return &http.Client{Transport: bearer{transport, t.token}}, "http://" + t.Addr
}
