package faultproxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
)

// Fault is what a Store does instead of forwarding a request.
type Fault string

// The faults.
const (
	SlowDown  Fault = "SlowDown"      // 503, as S3 answers a client that sends too many requests
	Internal  Fault = "InternalError" // 500
	Truncated Fault = "truncated"     // the connection ends in the middle of the body of the request or the answer
)

// Store is a proxy in front of an S3 server. It forwards requests unchanged, with their signatures. While the
// server is unreachable, it closes connections without an answer. Its methods are safe for concurrent use.
type Store struct {
	server   *http.Server
	listener net.Listener
	pass     *httputil.ReverseProxy
	served   sync.WaitGroup
	failed   atomic.Int64

	mu     sync.Mutex // guards the field below
	faults []Fault    // active faults; the latest one applies
}

// NewStore returns a proxy to the server at host:port, on a port of loopback. The caller must call Close.
func NewStore(target string) (*Store, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Store{listener: listener}
	s.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host // the host is signed
		},
		Transport:    &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.server = &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	s.served.Go(func() { _ = s.server.Serve(listener) }) // the error only says that Close was called
	return s, nil
}

// Addr is the address at which the program reaches the server.
func (s *Store) Addr() string { return s.listener.Addr().String() }

// Close closes the proxy and its connections.
func (s *Store) Close() {
	_ = s.server.Close()
	s.served.Wait()
}

// Fail makes every request fail with a fault, until over is called.
func (s *Store) Fail(fault Fault) (over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fault)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, t := range s.faults {
			if t == fault {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
				return
			}
		}
	})
}

// Failed returns the number of requests that a fault has hit.
func (s *Store) Failed() int { return int(s.failed.Load()) }

// now returns the fault that applies, or "" if there is none.
func (s *Store) now() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return ""
	}
	return s.faults[len(s.faults)-1]
}

// ServeHTTP forwards a request, or makes it fail.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := s.now()
	if fault != "" {
		s.failed.Add(1)
	}
	switch fault {
	case SlowDown:
		refuse(w, http.StatusServiceUnavailable, fault)
	case Internal:
		refuse(w, http.StatusInternalServerError, fault)
	case Truncated:
		if r.ContentLength > 0 {
			r.Body = &half{ReadCloser: r.Body, left: r.ContentLength / 2}
		}
		s.pass.ServeHTTP(&truncated{ResponseWriter: w}, r)
	default:
		s.pass.ServeHTTP(w, r)
	}
}

// refuse answers with an error in the format of S3.
func refuse(w http.ResponseWriter, status int, code Fault) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Connection", "close") // the rest of the body is not read
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>This failure was injected by a test.</Message></Error>`, code)
}

var errTruncated = errors.New("a test has truncated the body")

// half reads the first half of a body.
type half struct {
	io.ReadCloser
	left int64
}

// Read returns errTruncated after the first half.
func (h *half) Read(into []byte) (int, error) {
	if h.left <= 0 {
		return 0, errTruncated
	}
	n, err := h.ReadCloser.Read(into[:min(int64(len(into)), h.left)])
	h.left -= int64(n)
	return n, err
}

// truncated sends the header of an answer unchanged, and half of the first part of its body.
type truncated struct {
	http.ResponseWriter
}

// Write sends half of piece and then ends the connection.
func (t *truncated) Write(piece []byte) (int, error) {
	_, _ = t.ResponseWriter.Write(piece[:len(piece)/2])
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
