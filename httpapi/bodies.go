package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// copyBytes is how many bytes of a large body are in memory at once. One write timeout covers them.
const copyBytes = 64 << 10

// upload stores a large payload for a task that is enqueued later.
//
//	→ PUT /v1/blobs "a long text"
//	← 200 {"blob":{"task":"01J…","size":13,"sha256":"…"}}
func (s *Server) upload(w http.ResponseWriter, r *http.Request) *task.Error {
	if sign, refusal := wantsURL(r); refusal != nil {
		return refusal
	} else if sign {
		return s.signUpload(w, r)
	}
	if r.ContentLength > task.BlobBytes {
		return blobTooLarge()
	}
	counted := s.account(r)
	defer counted.close()
	most := copyBytes + uploadBytes
	if r.ContentLength >= 0 {
		most = copyBytes + int(min(r.ContentLength, uploadBytes))
	}
	if refusal := counted.take(most); refusal != nil {
		return refusal
	}
	body := &patient{body: r.Body, control: http.NewResponseController(w), patience: s.limits.LineTimeout}
	checked := &faulted{body: wire.NewBodyReader(&unmarked{body: body})}
	up, refusal := s.service.Upload(r.Context(), identityOf(r), checked)
	switch {
	case refusal != nil && checked.err != nil:
		w.Header().Set("Connection", "close")
		return s.bodyRefusal(checked.err)
	case refusal != nil && refusal.Code == task.PayloadTooLarge:
		return blobTooLarge()
	case refusal != nil:
		return refusal
	}
	r.Body = http.NoBody // it was read, so the answer need not wait for it
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return s.result(w, wire.AppendUpload(nil, &up))
}

func blobTooLarge() *task.Error {
	refusal := task.Refuse(task.PayloadTooLarge, "the body is larger than %d bytes, the most that a blob may have", task.BlobBytes)
	refusal.Limit = "blob"
	return refusal
}

// bodyRefusal returns the refusal of a body that could not be read completely.
func (s *Server) bodyRefusal(err error) *task.Error {
	var refusal *task.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, os.ErrDeadlineExceeded):
		refusal = task.Refuse(task.LineTimeout, "nothing of the body came for %s", s.limits.LineTimeout)
		refusal.Limit = "line-timeout"
		return refusal
	}
	return &task.Error{Code: task.InvalidRequest, Message: "the body broke off", Detail: err.Error()}
}

// patient reads a body of any length. Each Read may take as long as a line.
type patient struct {
	body     io.Reader
	control  *http.ResponseController
	patience time.Duration
}

// Read implements io.Reader.
func (p *patient) Read(into []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.patience))
	return p.body.Read(into)
}

// unmarked is a body without the byte order mark at its beginning.
type unmarked struct {
	body  io.Reader
	begun bool
	rest  []byte // bytes that were read to look for the mark
}

// Read implements io.Reader.
func (u *unmarked) Read(into []byte) (int, error) {
	if !u.begun {
		u.begun = true
		first := make([]byte, len(byteOrderMark))
		n, err := io.ReadFull(u.body, first)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		u.rest = bytes.TrimPrefix(first[:n], byteOrderMark)
	}
	if len(u.rest) > 0 {
		n := copy(into, u.rest)
		u.rest = u.rest[n:]
		return n, nil
	}
	return u.body.Read(into)
}

// faulted records the error of reading a body, to distinguish it from an error of the storage.
type faulted struct {
	body io.Reader
	err  error
}

// Read implements io.Reader.
func (f *faulted) Read(into []byte) (int, error) {
	n, err := f.body.Read(into)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// payload streams a task's payload.
//
//	→ GET /v1/tasks/01J…/payload
//	← 200 "hola"
func (s *Server) payload(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.body(w, r, s.service.Payload)
}

// outcome streams the result object of a task that is done.
//
//	→ GET /v1/tasks/01J…/result
//	← 200 {"ok":true,"data":"HOLA"}
func (s *Server) outcome(w http.ResponseWriter, r *http.Request) *task.Error {
	return s.body(w, r, s.service.Result)
}

// body answers with a payload or a result, or with a URL of it if the request asks for one.
func (s *Server) body(w http.ResponseWriter, r *http.Request, of func(who *auth.Identity, id string) service.Body) *task.Error {
	wanted, refusal := wantsURL(r)
	if refusal != nil {
		return refusal
	}
	request, refusal := lineOf(wire.OpGet, textMember("task", r.PathValue("task")))
	if refusal != nil {
		return refusal
	}
	asked := of(identityOf(r), request.Options.Task)
	if wanted {
		signed, refusal := asked.Sign(r.Context())
		return s.signed(w, signed, refusal)
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.take(bodyCopies * copyBytes); refusal != nil {
		return refusal
	}
	body, size, refusal := asked.Open(r.Context())
	if refusal != nil {
		return refusal
	}
	s.send(w, r, body, size)
	return nil
}

// send answers with a body as a stream. If the body turns out to be damaged, send breaks the connection, so that no
// client takes a part for the whole.
func (s *Server) send(w http.ResponseWriter, r *http.Request, body io.ReadCloser, size int64) {
	defer body.Close()
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if r.Method == http.MethodHead {
		return
	}
	out, part := &flusher{server: s, w: w}, make([]byte, min(copyBytes, size))
	for left := size; left > 0; {
		n, err := io.ReadFull(body, part[:min(left, int64(len(part)))])
		if err != nil {
			s.config.Logger.Warn("a body could not be read to its end", "path", r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
		if !out.send(part[:n]) {
			return
		}
		left -= int64(n)
	}
}
