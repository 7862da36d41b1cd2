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
	// idsMost limits the ids of one message.
	idsMost = 64
	// spread is the number of messages over which ids that are published together are
	// spread, so that several nodes get some.
	spread = 16
	// idMost is the longest id, in bytes; ours have 26.
	idMost = 64
	// idBytes is the size of an id with its separator.
	idBytes = 27
	// lanesMost limits the lanes that a node knows, since anybody may send announcements.
	lanesMost = 10_000
	// nameMost is the longest name that the protocol allows, in bytes.
	nameMost = 255
)

// lane identifies a quorum queue of ids.
type lane struct {
	Queue, Action string
	Priority      task.Priority
}

// name returns the name of the lane's queue on the server.
func (l lane) name(prefix string) string {
	name := strings.Join([]string{prefix, "ids", l.Queue, l.Priority.String(), url.PathEscape(l.Action)}, ".")
	if len(name) <= nameMost {
		return name
	}
	digest := sha256.Sum256([]byte(l.Action))
	return strings.Join([]string{prefix, "ids", l.Queue, l.Priority.String(), hex.EncodeToString(digest[:])}, ".")
}

// valid reports whether an announced lane can be one of ours.
func (l lane) valid() bool {
	return l.Queue != "" && len(l.Queue) <= idMost && l.Action != "" && len(l.Action) <= task.MaxAction && l.Priority <= task.Low
}

// parcel is a message with ids of one lane.
type parcel struct {
	lane
	ids  int
	body []byte
}

// pack packs hints into parcels, in order.
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

// errForeign is the error of a message that Posta did not send.
var errForeign = errors.New("not a message of Posta")

// unpack returns the ids of a message. Anybody may have sent it.
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
