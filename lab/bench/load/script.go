package load

import (
	"bytes"
	"fmt"
)

const (
	// FirstID is the first id of the first connection. All ids have eight digits, so that all requests have the
	// same length, and all replies too.
	FirstID = 10_000_000
	idWidth = 8
	// idsPerConnection keeps the ids of different connections apart.
	idsPerConnection = 100_000

	replyHead = `{"id":`
	replyTail = `,"status":"done","result":{"ok":true,"data":"HOLA"}}` + "\n"
	replySize = len(replyHead) + idWidth + len(replyTail)
)

// Script has the requests of one connection: a ring of rendered requests with different ids. So the generator needs
// only two system calls and a comparison for each batch, and does not measure itself.
type Script struct {
	base  int    // the first id
	ring  int    // number of different requests
	size  int    // bytes of one request
	lines []byte // the ring and a copy of its beginning, so that any depth consecutive requests are one slice
	next  int    // index of the next request
}

// NewScript renders the requests of one connection, the first of which is number 0. At most depth of them can be
// taken at once. They run an action that answers like upper.
func NewScript(connection, depth int, action string) *Script {
	s := &Script{base: FirstID + connection*idsPerConnection, ring: max(256, 2*depth)}
	for i := range s.ring + depth {
		s.lines = appendRequest(s.lines, s.base+i%s.ring, action)
	}
	s.size = len(s.lines) / (s.ring + depth)
	return s
}

// Take returns the next n requests; n is at most depth. The caller must not change them.
func (s *Script) Take(n int) []byte {
	from := s.next * s.size
	s.next = (s.next + n) % s.ring
	return s.lines[from : from+n*s.size]
}

func appendRequest(dst []byte, id int, action string) []byte {
	return fmt.Appendf(dst, `{"id":%d,"action":%q,"payload":"hola"}`+"\n", id, action)
}

// SampleReply is Posta's reply to the first request of the first connection.
func SampleReply() []byte {
	return fmt.Appendf(nil, replyHead+"%d"+replyTail, FirstID)
}

// checkReplies counts the complete lines at the beginning of buf. Each must be a reply of status done with the
// right result and an id of the right length. checkID checks some ids, and verify all of them.
func checkReplies(buf []byte) (int, error) {
	lines := 0
	for len(buf) >= replySize {
		if string(buf[replySize-len(replyTail):replySize]) != replyTail {
			return lines, Unexpected(buf)
		}
		buf = buf[replySize:]
		lines++
	}
	if bytes.IndexByte(buf, '\n') >= 0 {
		return lines, Unexpected(buf)
	}
	return lines, nil
}

// checkID checks that the id in the first line of buf belongs to this script.
func (s *Script) checkID(line []byte) error {
	id := 0
	for _, c := range line[len(replyHead) : len(replyHead)+idWidth] {
		id = id*10 + int(c-'0')
	}
	if id < s.base || id >= s.base+s.ring {
		return fmt.Errorf("id %d was never sent on this connection: %s", id, line[:replySize-1])
	}
	return nil
}

// Unexpected returns an error with the first line of buf.
func Unexpected(buf []byte) error {
	line, _, _ := bytes.Cut(buf, []byte{'\n'})
	return fmt.Errorf("unexpected reply %q", line[:min(len(line), 200)])
}
