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

// System is a running system.
type System struct {
	Web     *http.Client                   // sends every request to the system, whatever the host of the URL
	Base    string                         // the start of each URL, such as "http://127.0.0.1:9001"
	Dial    func() (*client.Client, error) // returns a client with a connection of its own
	Version string                         // of this program
	Now     func() time.Time
	// Grace is how long a node that answers may be unknown to the store. A node registers at its start, and then
	// every 5 s.
	Grace time.Duration
	// Hint returns how to fix an error, or "". It may be nil.
	Hint func(err error) string
}

// clockTolerance is how far apart two clocks may be without a warning. The Date header has whole seconds, and the
// answer takes a while. Leases last 15 s by the clock of the database, so only people and logs notice more.
const clockTolerance = 3 * time.Second

// Ready returns nil if the node accepts new work. Otherwise the error says why it does not.
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

// address checks whether a node answers at the address. If none does, the checks behind this one are left out.
func (s System) address(ctx context.Context, base string) []Finding {
	status, _, text, err := s.get(ctx, "/healthz")
	f := good("something listens at %s", strings.TrimPrefix(base, "http://"))
	switch {
	case err != nil:
		f = fault(s.hint(err), "%s", plain(err))
	case status != http.StatusOK:
		f = fault("is that a posta? --to or POSTA_TO says where one is", "/healthz is answered: %s", reason(status, text))
	}
	f.stops = f.Verdict == Wrong
	return []Finding{f}
}

// hint returns how to fix an error of a request.
func (s System) hint(err error) string {
	if s.Hint != nil {
		if hint := s.Hint(err); hint != "" {
			return hint
		}
	}
	return "is that a posta? --to or POSTA_TO says where one is"
}

// plain removes the URL from an error. The user has not typed that URL.
func plain(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

// ready checks whether the node accepts new work.
func (s System) ready(ctx context.Context, _ string) []Finding {
	if err := s.Ready(ctx); err != nil {
		return []Finding{fault("a node that drains will end; one whose slots are stuck needs a restart; a balancer that closes at once has no ready node", "not ready: %s", err)}
	}
	return []Finding{good("ready for work")}
}

// node checks whether a node answers over the line protocol. A missing token and another version show here.
func (s System) node(ctx context.Context, _ string) []Finding {
	info, err := s.info(ctx)
	f := good("node %s, version %s, %s, %s", info.Node, info.Version, amount(info.Slots, "slot"), amount(len(info.Actions), "action"))
	switch {
	case err != nil:
		f = fault(s.hint(err), "no answer to op info: %s", err)
	case info.Draining:
		f = fault("wait until it has been replaced", "node %s drains", info.Node)
	case info.Version != s.Version:
		f = doubt("versions may differ while a new one is rolled out; otherwise replace the older",
			"node %s has version %s, and this is %s", info.Node, info.Version, s.Version)
	}
	return []Finding{f}
}

// info asks for op info over a new connection.
func (s System) info(ctx context.Context) (client.Info, error) {
	c, err := s.Dial()
	if err != nil {
		return client.Info{}, err
	}
	defer c.Close()
	return c.Info(ctx)
}

// clock compares the clock of this machine with that of the node.
func (s System) clock(ctx context.Context, _ string) []Finding {
	began := s.Now()
	_, header, _, err := s.get(ctx, "/healthz")
	if err != nil {
		return []Finding{fault("see above", "%s", err)}
	}
	theirs, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return []Finding{doubt("is a posta there?", "the answer has no date")}
	}
	took := s.Now().Sub(began)
	apart := began.Add(took / 2).Sub(theirs.Add(time.Second / 2))
	if apart.Abs() > clockTolerance+took {
		return []Finding{doubt("let both machines follow the same time server", "this machine and the node are %s apart", apart.Abs().Round(time.Second))}
	}
	return []Finding{good("this machine's and the node's agree")}
}

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 4 << 20

// get sends a request to the node and returns its status, header and body.
func (s System) get(ctx context.Context, path string) (int, http.Header, []byte, error) {
	return s.send(ctx, http.MethodGet, path)
}

// send sends a request without a body.
func (s System) send(ctx context.Context, method, path string) (int, http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.Base+path, nil)
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

// reason returns the part of an answer that people can read.
func reason(status int, text []byte) string {
	var problem struct{ Detail string }
	if json.Unmarshal(text, &problem) == nil && problem.Detail != "" {
		return problem.Detail
	}
	return fmt.Sprintf("%d %s: %.80q", status, http.StatusText(status), strings.TrimSpace(string(text)))
}
