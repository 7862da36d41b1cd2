package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/broker/rabbitmq"
)

// slowConfirm is how long RabbitMQ may take to confirm a message before somebody should know: on one
// machine it takes a millisecond or two.
const slowConfirm = 100 * time.Millisecond

// The releases of RabbitMQ that nodes are tested with, oldest and newest, as major and minor.
const (
	rabbitOldest = "3.10"
	rabbitNewest = "4"
)

// Broker returns the check of the broker that a URL names; none for that of one process. It makes a queue
// and an exchange of its own there, and leaves nothing behind.
func Broker(url string) ([]Check, error) {
	scheme, _, _ := strings.Cut(url, "://")
	switch {
	case url == "memory://":
		return nil, nil
	case scheme != "amqp" && scheme != "amqps":
		return nil, &UnknownURLError{Kind: "broker", Allowed: "memory:// and amqp://USER@HOST/VHOST or amqps://…"}
	}
	return []Check{{Part: "broker", Look: func(ctx context.Context) []Finding {
		return judgeBroker(rabbitmq.Check(ctx, url))
	}}}, nil
}

func judgeBroker(r rabbitmq.Report, err error) []Finding {
	switch {
	case rabbitmq.Unauthorized(err):
		return []Finding{Fault("correct the user and the password in the URL, or rabbitmqctl add_user; guest may come from the same machine only", "%s", err)}
	case rabbitmq.WrongVHost(err):
		return []Finding{Fault("rabbitmqctl add_vhost VHOST; rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'", "%s", err)}
	case err != nil:
		return []Finding{Fault("is it up, and does the URL name its host and port, amqps:// where it speaks TLS? tasks are not in danger: nodes claim from the store meanwhile", "%s", err)}
	}
	found := []Finding{judgeRelease(r)}
	if len(r.Refused) > 0 {
		found = append(found, Fault("rabbitmqctl set_permissions -p VHOST USER '^(posta|amq)\\..*' '^(posta|amq)\\..*' '^(posta|amq)\\..*'",
			"the user may not %s", strings.Join(r.Refused, "; ")).Of("broker rights"))
	} else if r.Full == "" {
		found = append(found, Good("the user may do what a node does").Of("broker rights"))
	}
	switch {
	case r.Full != "":
		found = append(found, Doubt("give it memory or disk: rabbitmq-diagnostics alarms; nodes claim from the store meanwhile, a second late",
			"it takes nothing now: %s", r.Full).Of("broker room"))
	case r.RoundTrip > slowConfirm:
		found = append(found, Doubt("look at its disk, and at the way there", "it confirms a message after %s", rounded(r.RoundTrip)).Of("broker speed"))
	case r.RoundTrip > 0:
		found = append(found, Good("it confirms a message after %s", rounded(r.RoundTrip)).Of("broker speed"))
	}
	return found
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// judgeRelease compares a server with those that are tested.
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
		return Doubt("nodes want quorum queues and publisher confirms; RabbitMQ "+rabbitOldest+" to "+rabbitNewest+" has them", "%s, which is not known", saw)
	case major < 3 || major == 3 && minor < 10:
		return Fault("upgrade it", "%s, and at least %s is needed", saw, rabbitOldest)
	case major > 4:
		return Doubt("nothing, if it works", "%s; nodes are tested with %s to %s", saw, rabbitOldest, rabbitNewest)
	}
	return Good("%s", saw)
}
