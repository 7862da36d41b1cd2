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

// Trouble is what a Store does instead of what it is asked for.
type Trouble string

// The troubles.
const (
	SlowDown Trouble = "SlowDown"      // 503, as S3 answers who asks too often
	Internal Trouble = "InternalError" // 500
	Torn     Trouble = "torn"          // the connection ends in the middle of the body, of the request or of the answer
)

// Store stands before an S3 server and hands on requests as they are, signatures included. While the
// server is away, so is it: it closes connections without an answer. Its methods are safe for concurrent
// use.
type Store struct {
	server   *http.Server
	listener net.Listener
	pass     *httputil.ReverseProxy
	served   sync.WaitGroup
	spoilt   atomic.Int64

	mu      sync.Mutex // guards the one below
	trouble []Trouble  // the latest one counts
}

// NewStore makes a store before the one at host:port, on a port of loopback. Close ends it.
func NewStore(target string) (*Store, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Store{listener: listener}
	s.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:    &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.server = &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	s.served.Go(func() { _ = s.server.Serve(listener) }) // it ends by Close, and says no more than that
	return s, nil
}

// Addr is where the program finds the store.
func (s *Store) Addr() string { return s.listener.Addr().String() }

// Close ends the store and its connections.
func (s *Store) Close() {
	_ = s.server.Close()
	s.served.Wait()
}

// Fail has a trouble befall every request, until it is over.
func (s *Store) Fail(trouble Trouble) (over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = append(s.trouble, trouble)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, t := range s.trouble {
			if t == trouble {
				s.trouble = append(s.trouble[:i:i], s.trouble[i+1:]...)
				return
			}
		}
	})
}

// Spoilt counts the requests that a trouble has befallen.
func (s *Store) Spoilt() int { return int(s.spoilt.Load()) }

// now is the trouble that there is, "" if there is none.
func (s *Store) now() Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.trouble) == 0 {
		return ""
	}
	return s.trouble[len(s.trouble)-1]
}

// ServeHTTP hands on a request, or does not.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trouble := s.now()
	if trouble != "" {
		s.spoilt.Add(1)
	}
	switch trouble {
	case SlowDown:
		refuse(w, http.StatusServiceUnavailable, trouble)
	case Internal:
		refuse(w, http.StatusInternalServerError, trouble)
	case Torn:
		if r.ContentLength > 0 {
			r.Body = &half{ReadCloser: r.Body, left: r.ContentLength / 2}
		}
		s.pass.ServeHTTP(&torn{ResponseWriter: w}, r)
	default:
		s.pass.ServeHTTP(w, r)
	}
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code Trouble) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Connection", "close") // what is left of the body is not read
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>It was asked to fail.</Message></Error>`, code)
}

var errTorn = errors.New("the body was torn, as it was asked to")

// half is the first half of a body.
type half struct {
	io.ReadCloser
	left int64
}

// Read ends with an error where the half does.
func (h *half) Read(into []byte) (int, error) {
	if h.left <= 0 {
		return 0, errTorn
	}
	n, err := h.ReadCloser.Read(into[:min(int64(len(into)), h.left)])
	h.left -= int64(n)
	return n, err
}

// torn sends the header of an answer as it is, and of the first piece of its body one half.
type torn struct {
	http.ResponseWriter
}

// Write sends half of what it is given and ends the connection.
func (t *torn) Write(piece []byte) (int, error) {
	_, _ = t.ResponseWriter.Write(piece[:len(piece)/2])
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
