package cli

import (
	"reflect"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

func TestDefaultsAreReadByQueue(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]task.Defaults{
		"mail=max_attempts:20,backoff:30,keep_failed:30d;*": {"mail": {MaxAttempts: 20, Backoff: 30 * time.Second, KeepFailed: 30 * 24 * time.Hour}, "*": {}},
		"*=timeout:2h, backoff_max:5m ,keep:0,backoff:0":    {"*": {Timeout: 2 * time.Hour, BackoffMax: 5 * time.Minute, Keep: task.Zero, Backoff: task.Zero}},
	}
	for text, want := range tests {
		var d defaultsFlag
		if err := d.Set(text); err != nil || !reflect.DeepEqual(d.Queues, want) {
			t.Errorf("%s is %+v, %v; want %+v", text, d.Queues, err, want)
		}
	}
	for _, text := range []string{
		"", "Mail=backoff:1", "mail=", "mail=retries:3", "mail=max_attempts:0", "mail=max_attempts:1001", "mail=max_attempts:2.5", "mail=timeout:0", "mail=timeout:25h",
		"mail=backoff:25h", "mail=backoff:-1", "mail=keep:367d", "mail=backoff:1,backoff:2", "mail;mail", "mail=backoff:10,backoff_max:5", "mail=keep:soon",
	} {
		var d defaultsFlag
		if d.Set(text) == nil {
			t.Errorf("%q is taken as %+v", text, d.Queues)
		}
	}
}
