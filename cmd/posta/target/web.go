package target

import (
	"context"
	"net"
	"net/http"
)

// Web makes an HTTP client that leads every request to the target, and the base of URLs for it.
func (t *Target) Web() (web *http.Client, base string) {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := t.connect(ctx)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		DisableKeepAlives: true,
	}}, "http://" + t.Addr
}
