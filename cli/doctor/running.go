package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/posta-tasks/posta/client"
)

// System is one that runs.
type System struct {
	Web     *http.Client                   // leads every request to it, whatever the URL's host
	Base    string                         // of URLs
	Dial    func() (*client.Client, error) // gives one with a connection of its own
	Version string                         // of this program
	Now     func() time.Time
	// Grace is how long a node that answers may be unknown to the store: it tells that it lives every
	// 5 s, and at its start.
	Grace time.Duration
	// Hint returns what helps against an error, or nothing; it may be nil.
	Hint func(err error) string
}

// clockTolerance is more than the Date header, which has whole seconds, and the way of the
// answer account for. Leases last 15 s by the database's clock: only people and logs mind.
const clockTolerance = 3 * time.Second

// Checks are those of a running system, in the order in which failures explain each other.
func (s System) Checks() []Check {
	return []Check{
		{Part: "address", Look: func(ctx context.Context) []Finding { return []Finding{s.address(ctx)} }, First: true},
		One("ready", s.ready),
		One("node", s.node),
		One("clock", s.clock),
		{Part: "nodes", Look: s.nodes},
		{Part: "queues", Look: s.queues},
	}
}

// Ready asks whether new work is wanted; the error says why not.
func (s System) Ready(ctx context.Context) error {
	status, _, text, err := s.get(ctx, "/readyz")
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("%s", reason(status, text))
	}
	return nil
}

// address looks whether anything listens, and whether it is a posta. What else there is to look at needs that.
func (s System) address(ctx context.Context) Finding {
	status, _, text, err := s.get(ctx, "/healthz")
	switch {
	case err != nil:
		return Fault(s.hint(err), "%s", plain(err))
	case status != http.StatusOK:
		return Fault("is that a posta? --to or POSTA_TO says where one is", "/healthz is answered: %s", reason(status, text))
	}
	return Good("something listens at %s", strings.TrimPrefix(s.Base, "http://"))
}

// hint says what helps against an error of a question.
func (s System) hint(err error) string {
	if s.Hint != nil {
		if hint := s.Hint(err); hint != "" {
			return hint
		}
	}
	return "is that a posta? --to or POSTA_TO says where one is"
}

// plain takes off the URL, which nobody typed.
func plain(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

func (s System) ready(ctx context.Context) Finding {
	if err := s.Ready(ctx); err != nil {
		return Fault("a node that drains will end; one whose slots are stuck needs a restart; a balancer that closes at once has no ready node", "not ready: %s", err)
	}
	return Good("ready for work")
}

// node asks who answers lines: it shows a token that is missing, and versions that differ.
func (s System) node(ctx context.Context) Finding {
	info, err := s.info(ctx)
	switch {
	case err != nil:
		return Fault(s.hint(err), "no answer to op info: %s", err)
	case info.Draining:
		return Fault("wait until it has been replaced", "node %s drains", info.Node)
	case info.Version != s.Version:
		return Doubt("versions may differ while a new one is rolled out; otherwise replace the older",
			"node %s has version %s, and this is %s", info.Node, info.Version, s.Version)
	}
	return Good("node %s, version %s, %d slots, %d actions", info.Node, info.Version, info.Slots, len(info.Actions))
}

// info asks over a connection of its own.
func (s System) info(ctx context.Context) (client.Info, error) {
	c, err := s.Dial()
	if err != nil {
		return client.Info{}, err
	}
	defer c.Close()
	return c.Info(ctx)
}

// clock compares this machine's clock with the node's.
func (s System) clock(ctx context.Context) Finding {
	began := s.Now()
	_, header, _, err := s.get(ctx, "/healthz")
	if err != nil {
		return Fault("see above", "%s", err)
	}
	theirs, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return Doubt("is a posta there?", "the answer has no date")
	}
	ended := s.Now()
	apart := began.Add(ended.Sub(began) / 2).Sub(theirs.Add(time.Second / 2))
	if apart.Abs() > clockTolerance+ended.Sub(began) {
		return Doubt("let both machines follow the same time server", "this machine and the node are %s apart", apart.Abs().Round(time.Second))
	}
	return Good("this machine's and the node's agree")
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

func (s System) get(ctx context.Context, path string) (int, http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Base+path, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	response, err := s.Web.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, response.Header, text, err
}

// reason takes what people may read out of an answer.
func reason(status int, text []byte) string {
	var problem struct{ Detail string }
	if json.Unmarshal(text, &problem) == nil && problem.Detail != "" {
		return problem.Detail
	}
	return fmt.Sprintf("%d %s: %.80q", status, http.StatusText(status), strings.TrimSpace(string(text)))
}
