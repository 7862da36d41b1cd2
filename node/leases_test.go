package node_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// twoNodes are two nodes of different processes that share a store, and whose clients have tokens.
type twoNodes struct {
	t             *testing.T
	first, second string // addresses
}

func openTwo(t *testing.T, secure func(s store.Store, c *node.Config)) *twoNodes {
	t.Helper()
	kept := store.NewMemory(store.MemoryConfig{})
	config := withStore(kept)
	secure(kept, &config)
	first := openStage(t, config)
	config = withStore(kept)
	config.Name, config.Durable.RunsSuspects = "second", false
	secure(kept, &config)
	return &twoNodes{t, first.addr, openNamed(t, config).addr}
}

// withTwoTokens configures a node with the tokens first-secret-token and second-secret-token. Each may do everything.
func withTwoTokens(t *testing.T) func(store.Store, *node.Config) {
	return func(_ store.Store, c *node.Config) {
		c.Tokens = loadTokens(t, "a first-secret-token\nb second-secret-token\n")
	}
}

// as connects to a node with a token.
func (n *twoNodes) as(token, addr string) *visitor {
	n.t.Helper()
	v := visit(n.t, addr)
	v.present(token)
	return v
}

// lease starts a worker at the first node and returns it with a lease that it holds.
func (n *twoNodes) lease(token, name string) (v *visitor, push line) {
	n.t.Helper()
	v = n.as(token, n.first)
	v.send(fmt.Sprintf(`{"id":"w","op":"work","actions":[%q],"worker":%q,"grace":0}`+"\n"+`{"id":1,"op":"enqueue","action":%q}`+"\n", name, name, name))
	return v, v.read("running", "")
}

// post sends a request with a token and returns the status and the body.
func (n *twoNodes) post(token, addr, path, body string) (int, string) {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestAnotherTokenCannotAnswerALeaseAtAnyNode has two tokens that may both work everything. One of them tries to answer or to
// take a lease of the other, as it is and changed, at both nodes and both doors. Then its owner answers it at the other node.
func TestAnotherTokenCannotAnswerALeaseAtAnyNode(t *testing.T) {
	t.Parallel()
	n := openTwo(t, withTwoTokens(t))
	const owner, thief = "first-secret-token", "second-secret-token"
	v, push := n.lease(owner, "resize")
	_, own := n.lease(thief, "crop")
	claim, signature := push.Lease[:strings.LastIndexByte(push.Lease, '.')], own.Lease[strings.LastIndexByte(own.Lease, '.'):]
	if len(push.Lease) > 128 || strings.Count(push.Lease, ".") != 2 {
		t.Fatalf("the lease is %s", push.Lease)
	}
	for _, addr := range []string{n.first, n.second} {
		other := n.as(thief, addr)
		for _, lease := range []string{push.Lease, claim, claim + signature, claim + ".0", push.Lease[:len(push.Lease)-1]} {
			for op, more := range map[string]string{"done": `"data":"stolen"`, "fail": `"error":"stolen","retry":false`, "release": `"delay":3600`} {
				other.send(fmt.Sprintf(`{"id":%q,"op":%q,"lease":%q,%s}`+"\n", op, op, lease, more))
				if answer := other.answer(`"` + op + `"`); answer.Code != string(task.Forbidden) {
					t.Errorf("%s of %s at %s is answered %+v", op, lease, addr, answer)
				}
				if status, body := n.post(thief, addr, "/v1/work/"+lease+"/"+op, "{"+more+"}"); status != http.StatusForbidden {
					t.Errorf("%s of %s over HTTP at %s is answered %d %s", op, lease, addr, status, body)
				}
			}
			other.send(fmt.Sprintf(`{"id":"p","op":"progress","lease":%q,"percent":99}`+"\n", lease))
			if answer := other.answer(`"p"`); answer.Status != "error" {
				t.Errorf("progress of %s at %s is answered %+v", lease, addr, answer)
			}
			if status, body := n.post(thief, addr, "/v1/work/"+lease+"/progress", `{"percent":99}`); status != http.StatusForbidden {
				t.Errorf("progress of %s over HTTP at %s is answered %d %s", lease, addr, status, body)
			}
			if status, body := n.post(thief, addr, "/v1/work/beat", fmt.Sprintf(`{"worker":"resize","leases":[%q]}`, lease)); status != http.StatusOK || !strings.Contains(body, `"lost":["`+lease+`"]`) {
				t.Errorf("a beat with %s at %s is answered %d %s", lease, addr, status, body)
			}
			taker := n.as(thief, addr)
			taker.send(fmt.Sprintf(`{"id":"w","op":"work","actions":["none"],"worker":"resize","hold":[%q]}`+"\n", lease))
			if ready := taker.read("ready", ""); len(ready.Held) != 0 || len(ready.Lost) != 1 {
				t.Errorf("a hold of %s at %s is answered %+v", lease, addr, ready)
			}
		}
	}
	v.send(`{"id":2,"op":"get","task":"` + push.Task + `"}` + "\n")
	if record := v.answer("2"); record.Status != "running" || record.Attempt != 1 {
		t.Errorf("after all this, the task is %+v", record)
	}
	answering := n.as(owner, n.second)
	answering.send(fmt.Sprintf(`{"id":3,"op":"done","lease":%q,"data":"mine"}`+"\n", push.Lease))
	if answer := answering.answer("3"); answer.Status != "done" {
		t.Errorf("its owner is answered %+v at the other node", answer)
	}
	v.send(`{"id":4,"op":"get","task":"` + push.Task + `"}` + "\n")
	if record := v.answer("4"); string(record.Result) != `{"ok":true,"data":"mine"}` {
		t.Errorf("the task is recorded as %+v", record)
	}
}

// TestTheOwnerOfALeaseTakesItToAnotherNode: the signature is checked there, too, and on the way on.
func TestTheOwnerOfALeaseTakesItToAnotherNode(t *testing.T) {
	t.Parallel()
	n := openTwo(t, withTwoTokens(t))
	const owner = "first-secret-token"
	v, push := n.lease(owner, "resize")
	moved := n.as(owner, n.second)
	moved.send(fmt.Sprintf(`{"id":"w","op":"work","actions":["resize"],"worker":"resize","hold":[%q],"grace":0}`+"\n", push.Lease))
	if ready := moved.read("ready", ""); len(ready.Held) != 1 || ready.Held[0] != push.Lease {
		t.Fatalf("the second node answers %+v", ready)
	}
	v.reset()                                      // the first node takes back what it still has
	testenv.Eventually(t, patience, func() error { // until then it is lost for the first node
		if status, body := n.post(owner, n.first, "/v1/work/beat", fmt.Sprintf(`{"worker":"resize","leases":[%q]}`, push.Lease)); status != http.StatusOK || !strings.Contains(body, `"lost":[]`) {
			return fmt.Errorf("a beat at the first node is answered %d %s", status, body)
		}
		return nil
	})
	if status, body := n.post(owner, n.second, "/v1/work/"+push.Lease+"/done", `{}`); status != http.StatusOK || !strings.Contains(body, `"attempt":1`) {
		t.Errorf("an outcome at the second node is answered %d %s", status, body)
	}
}

// passOf signs a pass that is valid for some hours.
func passOf(t *testing.T, key auth.NewKey, subject string, hours int) string {
	t.Helper()
	pass, refusal := auth.SignPass(key.SigningSecret, key.ID, "posta", subject, []string{"*"}, time.Now(), time.Duration(hours)*time.Hour)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return pass
}

// TestALeaseOutlivesThePassThatReceivedIt: passes of one key and one subject are the same holder, and others are not.
func TestALeaseOutlivesThePassThatReceivedIt(t *testing.T) {
	t.Parallel()
	var rings []*auth.Keyring
	n := openTwo(t, func(kept store.Store, c *node.Config) {
		rings = append(rings, newRing(t, kept))
		c.Keys = rings[len(rings)-1]
	})
	key, refusal := rings[0].Create(t.Context(), auth.Open(), "fleet", []string{"*"}, 0)
	if refusal != nil {
		t.Fatal(refusal)
	}
	_, push := n.lease(passOf(t, key, "ana", 1), "resize")
	for _, stranger := range []string{passOf(t, key, "bo", 2), key.Text} {
		if status, body := n.post(stranger, n.second, "/v1/work/"+push.Lease+"/done", `{}`); status != http.StatusForbidden {
			t.Errorf("another subject is answered %d %s", status, body)
		}
	}
	if status, body := n.post(passOf(t, key, "ana", 3), n.second, "/v1/work/"+push.Lease+"/done", `{}`); status != http.StatusOK {
		t.Errorf("a renewed pass is answered %d %s", status, body)
	}
}

// TestWithoutAuthenticationALeaseIsPlain: everybody may do everything, so there is nothing to sign. A lease that a node with
// authentication has signed is accepted.
func TestWithoutAuthenticationALeaseIsPlain(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(store.MemoryConfig{})
	addr := openStage(t, node.Config{Durable: &durable.Config{Store: kept, RunsSuspects: true}}).addr
	for _, suffix := range []string{"", ".0123456789abcdef"} {
		id := enqueue(t, addr, "")
		v := work(t, addr, "", "")
		push := v.read("running", "")
		if push.Lease != id+".1" {
			t.Errorf("the lease is %s", push.Lease)
		}
		v.send(fmt.Sprintf(`{"id":1,"op":"done","lease":%q}`+"\n", push.Lease+suffix))
		if answer := v.answer("1"); answer.Status != "done" {
			t.Errorf("an outcome is answered %+v", answer)
		}
		v.send(`{"id":2,"op":"leave","work":"w"}` + "\n")
		v.read("done", `"w"`)
	}
}
