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
	// idsMost bounds the ids of one message.
	idsMost = 64
	// spread is in how many messages ids travel that are published together, as long as they
	// are few: each may go to another node.
	spread = 16
	// idMost bounds an id, in bytes; ours have 26.
	idMost = 64
	// idBytes is what one of our ids takes of a lane's bound.
	idBytes = 27
	// lanesMost bounds the lanes that a node knows, since announcements come from outside.
	lanesMost = 10_000
	// nameMost is the longest name that the protocol has, in bytes.
	nameMost = 255
)

// lane is what ids have in common that are taken from one place.
type lane struct {
	Queue, Action string
	Priority      task.Priority
}

// name is the lane's queue on the server.
func (l lane) name(prefix string) string {
	name := strings.Join([]string{prefix, "ids", l.Queue, l.Priority.String(), url.PathEscape(l.Action)}, ".")
	if len(name) <= nameMost {
		return name
	}
	digest := sha256.Sum256([]byte(l.Action))
	return strings.Join([]string{prefix, "ids", l.Queue, l.Priority.String(), hex.EncodeToString(digest[:])}, ".")
}

// valid tells whether an announced lane could be one of ours.
func (l lane) valid() bool {
	return l.Queue != "" && len(l.Queue) <= idMost && l.Action != "" && len(l.Action) <= task.MaxAction && l.Priority <= task.Low
}

// parcel is a message to be published: ids of one lane.
type parcel struct {
	lane
	ids  int
	body []byte
}

// pack makes parcels of hints, in their order.
func pack(hints []broker.Hint) ([]*parcel, error) {
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
	var parcels []*parcel
	for _, at := range order {
		list := ids[at]
		size := min(max(1, (len(list)+spread-1)/spread), idsMost)
		for len(list) > 0 {
			n := min(size, len(list))
			parcels = append(parcels, &parcel{at, n, []byte(strings.Join(list[:n], "\n"))})
			list = list[n:]
		}
	}
	return parcels, nil
}

// errForeign is said of messages that are none of ours.
var errForeign = errors.New("this is no message of Posta's")

// unpack reads the ids of a message, which may come from anybody.
func unpack(body []byte) ([]string, error) {
	if len(body) > idsMost*(idMost+1) {
		return nil, errForeign
	}
	fields := bytes.Split(body, []byte{'\n'})
	if len(fields) > idsMost {
		return nil, errForeign
	}
	ids := make([]string, len(fields))
	for i, id := range fields {
		if len(id) == 0 || len(id) > idMost || bytes.ContainsFunc(id, notInID) {
			return nil, errForeign
		}
		ids[i] = string(id)
	}
	return ids, nil
}

func notInID(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_'
}
