package node_test

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// hostileRequest is a request that no honest HTTP client sends. The response has one of the
// statuses; "" means that the connection ends without a response.
type hostileRequest struct{ name, sent, statuses string }

func hostileRequests() []hostileRequest {
	const (
		host = "Host: localhost\r\n"
		json = "Content-Type: application/json\r\n"
		body = `{"action":"echo","payload":"smuggled"}`
		run  = "POST /v1/run HTTP/1.1\r\n" + host + json
		long = "Content-Length: 38\r\n"
		next = "POST /v1/run HTTP/1.1\r\n" + host + json + long + "\r\n" + body
	)
	return []hostileRequest{
		{"a word", "HELLO\n", "400"},
		{"a banner of SSH", "SSH-2.0-client\r\n", "400"},
		{"the PROXY protocol in words", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + echo(`1`) + "\n", "400"},
		{"a greeting of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 403 505"},
		{"no version", "GET /healthz\r\n\r\n", "400"},
		{"a version to come", "GET /healthz HTTP/3.0\r\n" + host + "\r\n", "505 400"},
		{"no host", "GET /v1/run HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", "GET /healthz HTTP/1.1\r\n" + host + "Host: evil.example\r\n\r\n", "400"},
		{"a strange host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"},
		{"a strange host in the target", "GET http://evil.example/ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"a page elsewhere", run + "Origin: http://evil.example\r\n" + long + "\r\n" + body, "403"},
		{"a sandboxed page", run + "Origin: null\r\n" + long + "\r\n" + body, "403"},
		{"a form", "POST /v1/run HTTP/1.1\r\n" + host + "Content-Type: text/plain\r\n" + long + "\r\n" + body, "415"},
		{"two lengths", run + "Content-Length: 0\r\n" + long + "\r\n" + next, "400"},
		{"two lengths in one", run + "Content-Length: 0, 38\r\n\r\n" + next, "400"},
		{"a length with a sign", run + "Content-Length: +38\r\n\r\n" + next, "400"},
		{"a negative length", run + "Content-Length: -1\r\n\r\n" + next, "400"},
		{"a length beyond all", run + "Content-Length: 99999999999999999999\r\n\r\n" + next, "400"},
		{"a length in hexadecimal", run + "Content-Length: 0x26\r\n\r\n" + next, "400"},
		{"a length and chunks", run + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"chunks of a strange kind", run + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + next, "501 400"},
		{"chunks twice", run + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + next, "501 400"},
		{"chunks behind a space", run + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + next, "400"},
		{"a chunk of a bad size", run + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + next, "400"},
		{"a chunk beyond all", run + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + next, "400"},
		{"a header folded", "GET /healthz HTTP/1.1\r\n" + host + "X: a\r\n Transfer-Encoding: chunked\r\n\r\n", "200 400"},
		{"a header without a colon", "GET /healthz HTTP/1.1\r\n" + host + "X\r\n\r\n", "400"},
		{"a header with a NUL", "GET /healthz HTTP/1.1\r\n" + host + "X: \x00\r\n\r\n", "400"},
		{"a header with a bare return", "GET /healthz HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", "400"},
		{"headers of 100 KB", "GET /healthz HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 100_000) + "\r\n\r\n", "431"},
		{"a body of more than 1 MiB", run + "Content-Length: 1048577\r\n\r\n" + strings.Repeat(" ", 1<<20+1), "413"},
		{"a body that is no JSON", run + "Content-Length: 5\r\n\r\nhello", "400"},
		{"a body with a key twice", run + "Content-Length: 29\r\n\r\n" + `{"action":"echo","action":""}`, "400"},
		{"a packed body", run + "Content-Encoding: gzip\r\n" + long + "\r\n" + body, "415"},
		{"a strange method", "BREW / HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", "400 403 404 405"},
		{"a path upwards", "GET /../../etc/passwd HTTP/1.1\r\n" + host + "\r\n", "404 400"},
		{"an escaped path upwards", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + host + "\r\n", "404 400"},
		{"half a request", "POST /v1/run HTTP/1.1\r\nHost: loc", " 400"},
		{"half a body", run + long + "\r\n{", "400 408"},
	}
}

// answerLine matches the first line of an HTTP response.
var answerLine = regexp.MustCompile(`(?m)HTTP/1\.[01] (\d\d\d)`)

func TestAHostileHTTPRequestGetsAtMostOneResponse(t *testing.T) {
	t.Parallel()
	server := hostileNode(t)
	t.Run("request", func(t *testing.T) {
		for _, c := range hostileRequests() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				v := visit(t, server.addr)
				v.send(c.sent)
				v.finish()
				answer, err := io.ReadAll(v.in)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("the connection does not end: %v after %s", err, short(string(answer)))
				}
				checkAnswer(t, string(answer), strings.Split(c.statuses, " "))
			})
		}
	})
	server.expectAlive(t)
}

// checkAnswer checks that there is one response with one of the statuses, and no second one.
func checkAnswer(t *testing.T, answer string, statuses []string) {
	t.Helper()
	found := answerLine.FindAllStringSubmatch(answer, -1)
	if len(found) > 1 {
		t.Fatalf("got %d answers, want one:\n%s", len(found), short(answer))
	}
	status := ""
	if len(found) == 1 {
		status = found[0][1]
	}
	for _, allowed := range statuses {
		if status == allowed {
			return
		}
	}
	t.Errorf("the status is %q, want one of %q:\n%s", status, statuses, short(answer))
}
