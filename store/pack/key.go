package pack

import (
	"encoding/json"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Key returns what a store keeps of a key beside its id, and the times that change: JSON.
func Key(key *task.AccessKey) (string, error) {
	for _, at := range []*time.Time{&key.Created, &key.Used, &key.Expires, &key.Revoked} {
		*at = Time(Millis(*at))
	}
	about := *key
	about.Used, about.Revoked = time.Time{}, time.Time{}
	text, err := json.Marshal(about)
	return string(text), err
}

// UnpackKey returns the key of which Key has returned about.
func UnpackKey(about string, used, revoked int64) (key task.AccessKey, err error) {
	err = json.Unmarshal([]byte(about), &key)
	key.Created, key.Expires = key.Created.UTC(), key.Expires.UTC()
	key.Used, key.Revoked = Time(used), Time(revoked)
	return key, err
}
