package httpapi

import (
	"net/http"
	"strconv"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// presign is the parameter that asks for a signed URL instead of a body.
func presign() []parameter {
	return []parameter{{"presign", "integer", "1: answer with a signed URL of the blob storage, so that the body does not pass the node"}}
}

// wantsURL reports whether the request asks for a signed URL.
func wantsURL(r *http.Request) (bool, *task.Error) {
	query := r.URL.Query()
	if query.Has("presign") && query.Get("presign") != "1" {
		return false, task.RefuseField(task.InvalidRequest, "presign", "presign is %s; it must be 1, or left out", clip(query.Get("presign")))
	}
	return query.Has("presign"), nil
}

// signUpload answers with a URL to which a payload can be PUT.
//
//	→ PUT /v1/blobs?presign=1
//	← 200 {"blob":{"task":"01J…"},"url":"https://…","headers":{"If-None-Match":"*"},"valid_s":900}
func (s *Server) signUpload(w http.ResponseWriter, r *http.Request) *task.Error {
	if refusal := noBody(r); refusal != nil {
		return refusal
	}
	signed, refusal := s.service.SignUpload(r.Context(), identityOf(r))
	if refusal != nil {
		return refusal
	}
	object := task.AppendString([]byte(`{"blob":{"task":`), signed.Task)
	object = task.AppendString(append(object, `},"url":`...), signed.URL)
	return s.result(w, appendValid(append(object, `,"headers":{"If-None-Match":"*"}`...), &signed))
}

// signed answers with a URL from which a body can be got, and with what it must be.
//
//	→ GET /v1/tasks/01J…/payload?presign=1
//	← 200 {"url":"https://…","size":3000002,"sha256":"…","valid_s":900}
func (s *Server) signed(w http.ResponseWriter, signed durable.Signed, refusal *task.Error) *task.Error {
	if refusal != nil {
		return refusal
	}
	object := task.AppendString([]byte(`{"url":`), signed.URL)
	object = strconv.AppendInt(append(object, `,"size":`...), signed.Body.Size, 10)
	object = task.AppendString(append(object, `,"sha256":`...), signed.Body.SHA256)
	return s.result(w, appendValid(object, &signed))
}

func appendValid(object []byte, signed *durable.Signed) []byte {
	object = strconv.AppendInt(append(object, `,"valid_s":`...), int64(signed.Valid.Seconds()), 10)
	return append(object, '}')
}
