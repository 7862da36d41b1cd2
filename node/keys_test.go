package node_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
)

// newRing returns the keys of a store. Clients must have one.
func newRing(t *testing.T, kept store.Store) *auth.Keyring {
	t.Helper()
	ring, err := auth.NewKeyring(auth.KeyringConfig{Master: auth.Master(strings.Repeat("m", 32)), Store: kept, Required: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { ring.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return ring
}

// openKeys starts a node whose clients need keys, and makes a key.
func openKeys(t *testing.T, grants ...string) (s *stage, ring *auth.Keyring, kept store.Store, key auth.NewKey) {
	t.Helper()
	kept = store.NewMemory(store.MemoryConfig{})
	ring = newRing(t, kept)
	s = openStage(t, node.Config{Keys: ring, Durable: &durable.Config{Store: kept}})
	key, refusal := ring.Create(t.Context(), auth.Open(), "web", grants, 0)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return s, ring, kept, key
}

// present sends a token on a connection.
func (v *visitor) present(token string) {
	v.tb.Helper()
	v.send(`{"id":"t","op":"auth","token":"` + token + `"}` + "\n")
	v.expect(`{"id":"t","status":"done",…`)
}

func TestAKeyIsTakenByBothDoorsAndOwnsItsTasks(t *testing.T) {
	t.Parallel()
	s, _, _, key := openKeys(t, "run:*", "enqueue:*", "see:own")
	v := visit(t, s.addr)
	v.send(`{"id":"t","op":"auth","token":"` + key.Text + `"}` + "\n")
	v.expect(`{"id":"t","status":"done","result":{"ok":true,"name":"web","scopes":["run:*","enqueue:*","see:own"]}}`)
	v.send(`{"id":1,"op":"enqueue","action":"upper","payload":"a","wait":true}` + "\n")
	v.expect(`{"id":1,"status":"queued",…`)
	v.expect(`{"id":1,"status":"done",…`)
	v.send(`{"id":2,"op":"list"}` + "\n")
	v.expect(`{"id":2,"status":"done","result":{"ok":true,"tasks":[{…"owner":"key:` + key.ID + `"…`)
	if status, text := webWith(t, s, "Authorization", "Bearer "+key.Text, "/v1/tasks"); status != http.StatusOK || !strings.Contains(text, key.ID) {
		t.Errorf("over HTTP: %d %s", status, text)
	}
	if status, text := webWith(t, s, "Cookie", auth.SessionCookie+"="+key.Text, "/v1/tasks"); status != http.StatusOK || !strings.Contains(text, key.ID) {
		t.Errorf("with the cookie of a browser: %d %s", status, text)
	}
	for name, value := range map[string]string{"Authorization": "Bearer posta_x_y", "Cookie": auth.SessionCookie + "=x", "X-Nothing": "x"} {
		if status, text := webWith(t, s, name, value, "/v1/tasks"); status != http.StatusUnauthorized {
			t.Errorf("%s: %s is answered %d %s", name, value, status, text)
		}
	}
	if status, text := webWith(t, s, "X-Nothing", "x", "/v1/tasks?token="+key.Text); status != http.StatusUnauthorized {
		t.Errorf("a token in the URL is answered %d %s", status, text)
	}
	login, err := http.Post("http://"+s.addr+"/v1/session", "application/json", strings.NewReader(`{"token":"`+key.Text+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	login.Body.Close()
	if got := login.Header.Get("Set-Cookie"); login.StatusCode != http.StatusOK || got != auth.SessionCookie+"="+key.Text+"; Path=/; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("a login is answered %d, cookie %q", login.StatusCode, got)
	}
}

// webWith gets a path with a header.
func webWith(t *testing.T, s *stage, name, value, path string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(name, value)
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	line, _ := bufio.NewReader(response.Body).ReadString('\n')
	return response.StatusCode, line
}

func TestARevokedKeyEndsConnectionsAndStreams(t *testing.T) {
	t.Parallel()
	s, ring, kept, key := openKeys(t, "see:*", "run:*", "work:*", "enqueue:*")
	id := keep(t, kept, "")
	lines := visit(t, s.addr)
	lines.present(key.Text)
	lines.send(fmt.Sprintf(`{"id":1,"op":"watch","task":%q}`+"\n"+`{"id":"w","op":"work","actions":["ghost"]}`+"\n", id))
	lines.read("queued", "1")
	page := browse(t, s.addr, "Authorization", "Bearer "+key.Text)
	page.send(fmt.Sprintf(`{"id":1,"op":"watch","task":%q}`, id))
	page.expect(`{"id":1,"status":"queued",…`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/v1/tasks/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key.Text)
	events, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	if _, refusal := ring.Revoke(t.Context(), auth.Open(), key.ID); refusal != nil {
		t.Fatal(refusal)
	}
	for {
		line, err := lines.next()
		if err != nil {
			break
		}
		if strings.Contains(line, `"done"`) {
			t.Errorf("after the revocation: %s", line)
		}
	}
	for err := error(nil); err == nil; {
		_, err = page.next()
	}
	if _, err := io.Copy(io.Discard, events.Body); err != nil {
		t.Errorf("the stream of events ends with %v", err)
	}
	again := visit(t, s.addr)
	again.send(`{"id":"t","op":"auth","token":"` + key.Text + `"}` + "\n")
	again.expect(`{"id":"t","status":"error","code":"unauthenticated",…`)
	again.expectEnd()
}

func TestAPassIsRenewedOnTheConnection(t *testing.T) {
	t.Parallel()
	s, ring, _, key := openKeys(t, "run:*", "see:own", "mint:*")
	pass := func(lifetime time.Duration) string {
		t.Helper()
		text, refusal := auth.SignPass(key.SigningSecret, key.ID, ring.Cluster, "user-7", []string{"run:*"}, time.Now(), lifetime)
		if refusal != nil {
			t.Fatal(refusal)
		}
		return text
	}
	v := visit(t, s.addr)
	v.present(pass(2 * time.Second)) // a JWT has whole seconds
	v.send(`{"id":1,"action":"upper","payload":"a"}` + "\n")
	v.expect(`{"id":1,"status":"done",…`)
	for { // until the pass has ended
		v.send(`{"id":2,"action":"upper"}` + "\n")
		line, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `"unauthenticated"`) {
			break
		}
	}
	v.expectPong()
	v.present(pass(time.Minute))
	v.send(`{"id":3,"action":"upper","payload":"a"}` + "\n")
	v.expect(`{"id":3,"status":"done",…`)
	v.send(`{"id":4,"op":"list"}` + "\n")
	v.expect(`{"id":4,"status":"error","code":"forbidden",…`) // the key may, and the pass may not
}

func TestWithoutRequiredKeysTheNodeIsOpenAndAKeyStillLimits(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(store.MemoryConfig{})
	ring, err := auth.NewKeyring(auth.KeyringConfig{Master: auth.Master(strings.Repeat("m", 32)), Store: kept})
	if err != nil {
		t.Fatal(err)
	}
	s := openStage(t, node.Config{Keys: ring, Durable: &durable.Config{Store: kept}})
	key, refusal := ring.Create(t.Context(), auth.Open(), "web", []string{"see:*"}, 0)
	if refusal != nil {
		t.Fatal(refusal)
	}
	v := visit(t, s.addr)
	v.send(`{"id":1,"action":"upper","payload":"a"}` + "\n")
	v.expect(`{"id":1,"status":"done",…`)
	v.present("some-token-of-before")
	v.send(`{"id":2,"action":"upper","payload":"a"}` + "\n")
	v.expect(`{"id":2,"status":"done",…`)
	v.present(key.Text)
	v.send(`{"id":3,"action":"upper","payload":"a"}` + "\n")
	v.expect(`{"id":3,"status":"error","code":"forbidden",…`)
	if status, _ := webWith(t, s, "Authorization", "Basic eDp5", "/v1/keys"); status != http.StatusOK {
		t.Errorf("a header of a proxy is answered %d", status)
	}
	if status, _ := webWith(t, s, "Authorization", "Bearer "+key.Text, "/v1/keys"); status != http.StatusForbidden {
		t.Errorf("a viewer lists the keys: %d", status)
	}
	if status, _ := webWith(t, s, "Authorization", "Bearer "+key.Text+"x", "/v1/keys"); status != http.StatusUnauthorized {
		t.Errorf("a forged key is answered %d", status)
	}
}
