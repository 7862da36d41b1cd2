package rabbitmq

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

const (
	// maxMessageIDs is the largest number of ids in one message.
	maxMessageIDs = 64
	// spreadOver is the number of messages over which ids that are published together are
	// spread, so that several nodes get some.
	spreadOver = 16
	// maxIDBytes is the length of the longest id that is accepted; ids of Posta have 26 bytes.
	maxIDBytes = 64
	// idBytes is the size of an id with its separator.
	idBytes = 27
	// maxLanes limits the lanes that a node remembers, since any client of the server may send
	// announcements.
	maxLanes = 10_000
	// maxNameBytes is the length of the longest name that AMQP allows.
	maxNameBytes = 255
)

// lane identifies a quorum queue of ids.
type lane struct {
	Queue, Action string
	Priority      task.Priority
}

// name returns the name of the lane's queue on the server.
func (l lane) name(prefix string) string {
	name := strings.Join([]string{prefix, "ids", l.Queue, l.Priority.String(), url.PathEscape(l.Action)}, ".")
	if len(name) <= maxNameBytes {
		return name
	}
	digest := sha256.Sum256([]byte(l.Action))
	return strings.Join([]string{prefix, "ids", l.Queue, l.Priority.String(), hex.EncodeToString(digest[:])}, ".")
}

// valid reports whether an announced lane can be a lane of Posta.
func (l lane) valid() bool {
	return l.Queue != "" && len(l.Queue) <= maxIDBytes && l.Action != "" && len(l.Action) <= task.MaxAction && l.Priority <= task.Low
}

// announcement is a lane as a node announces it to all nodes.
type announcement struct {
	lane
	// Again means that the queue was deleted and the node has declared it again. RabbitMQ does not always cancel
	// the consumers of the deleted queue then: some stay, get messages of the new queue, and deliver none.
	Again bool `json:",omitempty"`
}

// packet is a message of ids for one lane.
type packet struct {
	lane
	ids  int
	body []byte
}

// pack puts hints into packets, in order.
func pack(hints []broker.Hint) ([]*packet, error) {
	var order []lane
	ids := map[lane][]string{}
	for i := range hints {
		h := &hints[i]
		if h.Priority > task.Low {
			return nil, task.Refuse(task.Internal, "the priority %d: there is none above %d", h.Priority, task.Low)
		}
		at := lane{h.Queue, h.Action, h.Priority}
		if ids[at] == nil {
			order = append(order, at)
		}
		ids[at] = append(ids[at], h.ID)
	}
	var packets []*packet
	for _, at := range order {
		list := ids[at]
		size := min(max(1, (len(list)+spreadOver-1)/spreadOver), maxMessageIDs)
		for len(list) > 0 {
			n := min(size, len(list))
			packets = append(packets, &packet{at, n, []byte(strings.Join(list[:n], "\n"))})
			list = list[n:]
		}
	}
	return packets, nil
}

// errForeign is the error for a message that Posta did not send.
var errForeign = errors.New("not a message of Posta")

// unpack returns the ids of a message, which may come from any client of the server.
func unpack(body []byte) ([]string, error) {
	if len(body) > maxMessageIDs*(maxIDBytes+1) {
		return nil, errForeign
	}
	fields := bytes.Split(body, []byte{'\n'})
	if len(fields) > maxMessageIDs {
		return nil, errForeign
	}
	ids := make([]string, len(fields))
	for i, id := range fields {
		if len(id) == 0 || len(id) > maxIDBytes || bytes.ContainsFunc(id, notInID) {
			return nil, errForeign
		}
		ids[i] = string(id)
	}
	return ids, nil
}

func notInID(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_'
}
