// Package webhook calls an HTTP endpoint as an action. The payload is the body of a POST request, signed as
// Standard Webhooks defines, and the answer is the result.
//
// The address of the endpoint is checked at each dial, after its name was resolved. So an endpoint cannot make a
// node call a private address, neither by its name nor by a redirect, which is never followed.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/actions"
)

const (
	// MaxAnswer is the largest body of an answer, in bytes.
	MaxAnswer = 1 << 20
	// maxHeader is the largest header of an answer, in bytes.
	maxHeader = 64 << 10
	// maxShown is how many bytes of an answer an error includes.
	maxShown = 200
	// dialTimeout is the timeout of the connection and the TLS handshake. The timeout of the attempt covers
	// everything.
	dialTimeout = 10 * time.Second
	// idleTimeout is how long an unused connection stays open.
	idleTimeout = 30 * time.Second
)

// Config configures an Endpoint.
type Config struct {
	URL      *url.URL       // http or https, without user and password
	Keys     [][]byte       // the keys that sign requests, newest first; none: requests are not signed
	Allow    []netip.Prefix // networks that may be called even if they are not public
	Idle     int            // unused connections that stay open; 0: 2
	Agent    string         // the User-Agent; "": Posta
	Resolver *net.Resolver  // nil: the system's
	Now      func() time.Time
}

// Endpoint calls an endpoint as an action. It is safe for concurrent use.
type Endpoint struct {
	config Config
	client *http.Client
}

// New returns an Endpoint. The caller must call Close.
func New(config Config) *Endpoint {
	if config.Agent == "" {
		config.Agent = "Posta"
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	addresses := newAddresses(config.Allow)
	dialer := &net.Dialer{
		Timeout: dialTimeout, Resolver: config.Resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("the address %q cannot be checked: %w", address, err)
			}
			return addresses.check(to.Addr())
		},
	}
	return &Endpoint{config: config, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // without Proxy: a proxy could reach addresses that this node must not call
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
			DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost: config.Idle, IdleConnTimeout: idleTimeout,
		},
	}}
}

// Close closes the unused connections.
func (e *Endpoint) Close() { e.client.CloseIdleConnections() }

// Call is the action.
func (e *Endpoint) Call(ctx context.Context, call *actions.Call, dst []byte) ([]byte, error) {
	request, err := e.request(ctx, call)
	if err != nil {
		return dst, actions.Permanent(err)
	}
	answer, err := e.client.Do(request)
	if err != nil {
		return dst, e.lost(ctx, err)
	}
	defer answer.Body.Close()
	most := MaxAnswer
	if call.MaxResult > 0 {
		most = min(most, call.MaxResult)
	}
	if answer.StatusCode/100 != 2 {
		most = maxShown
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, int64(most)+1))
	switch {
	case answer.StatusCode/100 != 2:
		return dst, e.refused(answer, body)
	case answer.StatusCode == http.StatusAccepted && strings.EqualFold(answer.Header.Get("Posta-Async"), "true"):
		return dst, e.await(ctx, call)
	case err != nil:
		return dst, e.lost(ctx, err)
	case len(body) > most:
		return dst, &actions.TooLargeError{Most: most}
	}
	if len(body) == 0 {
		body = []byte("null")
	}
	return actions.AppendData(dst, body), nil
}

// await keeps an attempt open until another program sends its outcome, which ends ctx, or its time is over.
func (e *Endpoint) await(ctx context.Context, call *actions.Call) error {
	if call.Task == "" {
		return actions.Permanent(errors.New("202 with Posta-Async: a direct task has no lease, so its result cannot come later"))
	}
	<-ctx.Done()
	return ctx.Err()
}

// request returns the request of an attempt.
func (e *Endpoint) request(ctx context.Context, call *actions.Call) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.config.URL.String(), bytes.NewReader(call.Payload))
	if err != nil {
		return nil, errors.New("no request can be made for this URL")
	}
	request.GetBody = nil // a request is sent once; only the task can be tried again
	id, now := call.Task, strconv.FormatInt(e.config.Now().Unix(), 10)
	if id == "" {
		id = "run_" + rand.Text()
	}
	h := request.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", e.config.Agent)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", now)
	h.Set("Idempotency-Key", id)
	h.Set("Posta-Action", headerValue(call.Action))
	h.Set("Posta-Attempt", strconv.Itoa(max(call.Attempt, 1)))
	if lease := call.Lease(); lease != "" {
		h.Set("Posta-Lease", lease)
	}
	if len(e.config.Keys) > 0 {
		h.Set("Webhook-Signature", e.sign(id, now, call.Payload))
	}
	return request, nil
}

// headerValue makes a name fit for a header: it percent-encodes all bytes that are not printable ASCII.
func headerValue(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c > ' ' && c < 0x7f && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// sign returns a signature by each key in the format of Standard Webhooks.
func (e *Endpoint) sign(id, timestamp string, body []byte) string {
	var all []string
	for _, key := range e.config.Keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// lost returns the error of a request that got no complete answer. It leaves out the URL, which may contain a
// secret.
func (e *Endpoint) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var with *url.Error
	if errors.As(err, &with) {
		err = with.Err
	}
	return fmt.Errorf("no answer from %s: %w", e.config.URL.Host, err)
}

// refused returns the error of an answer that is not a success.
func (e *Endpoint) refused(answer *http.Response, body []byte) error {
	text := answer.Status
	if len(body) > maxShown {
		body = body[:maxShown]
	}
	if shown := strings.TrimSpace(strings.ToValidUTF8(string(body), "\uFFFD")); shown != "" {
		text += ": " + strconv.Quote(shown)
	}
	err := errors.New(text)
	switch code := answer.StatusCode; {
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		if after := e.retryAfter(answer.Header.Get("Retry-After")); after > 0 {
			return actions.SlowDown(err, after)
		}
		return err
	}
	return actions.Permanent(err)
}

// retryAfter parses a Retry-After header: seconds or a date.
func (e *Endpoint) retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, actions.MaxSlowDown)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(e.config.Now()), 0), actions.MaxSlowDown)
	}
	return 0
}
