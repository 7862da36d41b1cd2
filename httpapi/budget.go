package httpapi

import (
	"net/http"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// What counts against the budget of the node.
const (
	// bodyBytes is the largest body that does not count. The buffers of the connection itself are as large.
	bodyBytes = 4 << 10
	// bodyCopies is how many copies of a body are in memory: the received one, and that of the engine or the pool.
	bodyCopies = 2
	// replyBytes is the memory that a reply about tasks may need.
	replyBytes = wire.MaxShown
	// waitBytes is the measured memory of a request that waits for a task, with its connection.
	waitBytes = 44 << 10
	// streamBytes is the measured memory of a stream of events.
	streamBytes = 56 << 10
	// socketBytes is the measured memory of a WebSocket.
	socketBytes = 57 << 10
	// itemBytes is the memory of a task in a stream of lines while it is accepted, beside its line.
	itemBytes = 2 << 10
	// uploadBytes is how many bytes of an upload are in memory at once: one part for blob storage.
	uploadBytes = 5 << 20
)

// account is the memory that one request counts against the budget of the node. It belongs to the goroutine of the
// request.
type account struct {
	server  *Server
	request *http.Request
	counted int
}

func (s *Server) account(r *http.Request) *account { return &account{server: s, request: r} }

// take counts bytes. It waits for them at most as long as a line may take.
func (a *account) take(bytes int) *task.Error {
	budget := a.server.config.Budget
	if !budget.TakeWithin(a.request.Context(), a.server.limits.LineTimeout, bytes, a.counted) {
		return budget.Refusal()
	}
	a.counted += bytes
	return nil
}

// body counts a body of size bytes, some of which may be counted already. The time for reading the body begins when
// they are counted.
func (a *account) body(w http.ResponseWriter, bytes int) *task.Error {
	more := bodyCopies*bytes - a.counted
	if bytes <= bodyBytes || more <= 0 {
		return nil
	}
	refusal := a.take(more)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.server.limits.LineTimeout))
	return refusal
}

// reply counts a reply about tasks before it is made.
func (a *account) reply() *task.Error { return a.take(replyBytes) }

// takeLasting counts bytes that may be used for long. It does not wait.
func (a *account) takeLasting(bytes int) *task.Error {
	if !a.server.config.Budget.TakeLasting(bytes) {
		return a.server.config.Budget.Refusal()
	}
	a.counted += bytes
	return nil
}

// add counts bytes that are in use already.
func (a *account) add(bytes int) {
	a.server.config.Budget.Add(bytes)
	a.counted += bytes
}

// give returns bytes.
func (a *account) give(bytes int) {
	a.server.config.Budget.Give(bytes)
	a.counted -= bytes
}

// close returns the bytes that are left.
func (a *account) close() {
	if a.counted > 0 {
		a.give(a.counted)
	}
}
