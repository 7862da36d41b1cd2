package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/broker/rabbitmq"
)

// slowConfirm is how long RabbitMQ may take to confirm a message without a warning. On one machine it takes a
// millisecond or two.
const slowConfirm = 100 * time.Millisecond

// The oldest and the newest release of RabbitMQ that nodes are tested with.
const (
	rabbitOldest = "3.10"
	rabbitNewest = "4"
)

// rabbitMQ checks a broker. It declares a queue and an exchange there and deletes both.
func rabbitMQ(ctx context.Context, url string) []Finding {
	return judgeBroker(rabbitmq.Check(ctx, url))
}

// judgeBroker judges what rabbitmq.Check reports.
func judgeBroker(r rabbitmq.Report, err error) []Finding {
	switch {
	case rabbitmq.Unauthorized(err):
		return []Finding{fault("correct the user and the password in the URL, or rabbitmqctl add_user; guest may come from the same machine only", "%s", err)}
	case rabbitmq.WrongVHost(err):
		return []Finding{fault("rabbitmqctl add_vhost VHOST; rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'", "%s", err)}
	case err != nil:
		return []Finding{fault("is it up, and does the URL name its host and port, amqps:// where it speaks TLS? tasks are not in danger: nodes claim from the store meanwhile", "%s", err)}
	}
	found := []Finding{judgeRelease(r)}
	if len(r.Refused) > 0 {
		found = append(found, fault("rabbitmqctl set_permissions -p VHOST USER '^(posta|amq)\\..*' '^(posta|amq)\\..*' '^(posta|amq)\\..*'",
			"the user may not %s", strings.Join(r.Refused, "; ")).of("broker rights"))
	} else if r.Full == "" {
		found = append(found, good("the user may do what a node does").of("broker rights"))
	}
	switch {
	case r.Full != "":
		found = append(found, doubt("give it memory or disk: rabbitmq-diagnostics alarms; nodes claim from the store meanwhile, a second late",
			"it takes nothing now: %s", r.Full).of("broker room"))
	case r.RoundTrip > slowConfirm:
		found = append(found, doubt("look at its disk, and at the way there", "it confirms a message after %s", rounded(r.RoundTrip)).of("broker speed"))
	case r.RoundTrip > 0:
		found = append(found, good("it confirms a message after %s", rounded(r.RoundTrip)).of("broker speed"))
	}
	return found
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// judgeRelease compares the release of a server with those that nodes are tested with.
func judgeRelease(r rabbitmq.Report) Finding {
	over := "in plain text"
	if r.Encrypted {
		over = "over TLS"
	}
	saw := fmt.Sprintf("%s %s answers, %s", r.Product, r.Version, over)
	var major, minor int
	_, err := fmt.Sscanf(r.Version, "%d.%d", &major, &minor)
	switch {
	case r.Product != "RabbitMQ" || err != nil:
		return doubt("nodes want quorum queues and publisher confirms; RabbitMQ "+rabbitOldest+" to "+rabbitNewest+" has them", "%s, which is not known", saw)
	case major < 3 || major == 3 && minor < 10:
		return fault("upgrade it", "%s, and at least %s is needed", saw, rabbitOldest)
	case major > 4:
		return doubt("nothing, if it works", "%s; nodes are tested with %s to %s", saw, rabbitOldest, rabbitNewest)
	}
	return good("%s", saw)
}
