package httpapi

import (
	"net/http"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// What counts against the node's budget.
const (
	// bodyBytes is the longest body that does not count: the connection's own buffers are as large.
	bodyBytes = 4 << 10
	// bodyCopies is how often a body is in memory: as it came, and as the engine or the pool has it.
	bodyCopies = 2
	// replyBytes is what a reply about tasks may need.
	replyBytes = wire.MaxShown
	// waitBytes is what a request that waits for a task costs by measurement, with its connection.
	waitBytes = 44 << 10
	// streamBytes is the same for a stream of events.
	streamBytes = 56 << 10
	// socketBytes is the same for a WebSocket.
	socketBytes = 57 << 10
	// itemBytes is what a task of a stream of lines costs while it is accepted, beside its line.
	itemBytes = 2 << 10
	// uploadBytes is the most of an upload that is in memory at once: a part, as blob storage takes it.
	uploadBytes = 5 << 20
)

// account is what one request counts against the node's budget. It belongs to the request's goroutine.
type account struct {
	server  *Server
	request *http.Request
	counted int
}

func (s *Server) account(r *http.Request) *account { return &account{server: s, request: r} }

// take counts bytes. It waits for them as long as a line may take.
func (a *account) take(bytes int) *task.Error {
	budget := a.server.config.Budget
	if !budget.TakeWithin(a.request.Context(), a.server.limits.LineTimeout, bytes, a.counted) {
		return budget.Refusal()
	}
	a.counted += bytes
	return nil
}

// body counts a body of so many bytes, of which some may count already. Its time begins when there is room for it.
func (a *account) body(w http.ResponseWriter, bytes int) *task.Error {
	more := bodyCopies*bytes - a.counted
	if bytes <= bodyBytes || more <= 0 {
		return nil
	}
	refusal := a.take(more)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.server.limits.LineTimeout))
	return refusal
}

// reply counts a reply about tasks that is about to be made.
func (a *account) reply() *task.Error { return a.take(replyBytes) }

// takeLasting counts bytes that may be held for long, if there is room at once.
func (a *account) takeLasting(bytes int) *task.Error {
	if !a.server.config.Budget.TakeLasting(bytes) {
		return a.server.config.Budget.Refusal()
	}
	a.counted += bytes
	return nil
}

// add counts bytes that are in memory already.
func (a *account) add(bytes int) {
	a.server.config.Budget.Add(bytes)
	a.counted += bytes
}

// give returns bytes.
func (a *account) give(bytes int) {
	a.server.config.Budget.Give(bytes)
	a.counted -= bytes
}

// close returns what is left.
func (a *account) close() {
	if a.counted > 0 {
		a.give(a.counted)
	}
}
