package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

func keyRoutes() []route {
	return []route{{
		method: "GET", path: "/v1/keys", access: manager, handle: (*Server).listKeys, about: "show the keys of clients, without their secrets",
		answers: []reply{{200, jsonType, "KeyList", "every key, also the revoked ones, in the order in which they were made"}},
	}, {
		method: "POST", path: "/v1/keys", access: manager, handle: (*Server).createKey, about: "make a key for a client",
		takes: []string{jsonType}, body: "NewKey", answers: []reply{{200, jsonType, "CreatedKey", "the key with its secrets, which are shown once"}},
	}, {
		method: "DELETE", path: "/v1/keys/{id}", access: manager, handle: (*Server).revokeKey, about: "revoke a key for good",
		answers: []reply{{200, jsonType, "Key", "it holds on this node now, and on the others within 2 seconds"}},
	}, {
		method: "POST", path: "/v1/passes", access: minter, handle: (*Server).mintPass, about: "make a pass, a short-lived token of one's own key",
		takes: []string{jsonType}, body: "NewPass", answers: []reply{{200, jsonType, "Pass", "the pass"}},
	}, {
		method: "POST", path: "/v1/session", access: anyone, handle: (*Server).login, later: true, about: "keep a token in a cookie of the browser",
		takes: []string{jsonType}, body: "Login", answers: []reply{{200, jsonType, "Session", "the cookie is set"}},
	}, {
		method: "DELETE", path: "/v1/session", access: anyone, handle: (*Server).logout, later: true, about: "have the browser forget its token",
		answers: []reply{{200, jsonType, "OK", "the cookie is deleted"}},
	}}
}

// needKeys refuses a request about keys if the node has none.
func (s *Server) needKeys() *task.Error {
	if s.verifier.Keys == nil {
		return task.Refuse(task.Unavailable, "this node has no keys; start it with --store and --master-key-file")
	}
	return nil
}

// shownKey is a key in an answer.
type shownKey struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Grants  []string   `json:"grants"`
	By      string     `json:"by"`
	Created time.Time  `json:"created_at"`
	Used    *time.Time `json:"used_at,omitempty"`
	Expires *time.Time `json:"expires_at,omitempty"`
	Revoked *time.Time `json:"revoked_at,omitempty"`
}

func showKey(key *task.AccessKey) shownKey {
	optional := func(at time.Time) *time.Time {
		if at.IsZero() {
			return nil
		}
		return &at
	}
	return shownKey{key.ID, key.Name, key.Grants, key.By, key.Created, optional(key.Used), optional(key.Expires), optional(key.Revoked)}
}

// listKeys lists the keys.
//
//	→ GET /v1/keys
//	← 200 {"ok":true,"keys":[{"id":"…","name":"web","grants":["run:*"],"by":"ana","created_at":"…"}]}
func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) *task.Error {
	if refusal := s.needKeys(); refusal != nil {
		return refusal
	}
	counted := s.account(r)
	defer counted.close()
	if refusal := counted.reply(); refusal != nil {
		return refusal
	}
	keys, refusal := s.verifier.Keys.List(r.Context())
	if refusal != nil {
		return refusal
	}
	shown := make([]shownKey, 0, len(keys))
	for i := range keys {
		shown = append(shown, showKey(&keys[i]))
	}
	return s.encode(w, struct {
		OK   bool       `json:"ok"`
		Keys []shownKey `json:"keys"`
	}{true, shown})
}

// createKey makes a key.
//
//	→ POST /v1/keys {"name":"web","role":"submitter","expires":86400}
//	← 200 {"ok":true,"id":"…","key":"posta_…","signing_secret":"…","name":"web","grants":["run:*",…]}
func (s *Server) createKey(w http.ResponseWriter, r *http.Request) *task.Error {
	var asked struct {
		Name    string   `json:"name"`
		Grants  []string `json:"grants"`
		Role    string   `json:"role"`
		Expires *float64 `json:"expires"`
	}
	refusal := s.needKeys()
	if refusal == nil {
		refusal = s.decode(w, r, &asked)
	}
	if refusal != nil {
		return refusal
	}
	if asked.Role != "" {
		grants, err := auth.RoleGrants(asked.Role)
		if err != nil {
			return task.RefuseField(task.InvalidRequest, "role", "%v", err)
		}
		asked.Grants = append(asked.Grants, grants...)
	}
	lifetime, refusal := spanOf(asked.Expires, 0, 100*task.MaxSpan)
	if refusal != nil {
		return refusal
	}
	made, refusal := s.createKeyFor(r.Context(), identityOf(r), asked.Name, asked.Grants, lifetime)
	if refusal != nil {
		return refusal
	}
	return s.encode(w, struct {
		OK bool `json:"ok"`
		shownKey
		Key           string `json:"key"`
		SigningSecret string `json:"signing_secret"`
	}{true, showKey(&made.AccessKey), made.Text, made.SigningSecret})
}

// revokeKey revokes a key.
//
//	→ DELETE /v1/keys/mfrggzdfmztw
//	← 200 {"ok":true,"id":"mfrggzdfmztw",…,"revoked_at":"…"}
func (s *Server) revokeKey(w http.ResponseWriter, r *http.Request) *task.Error {
	refusal := s.needKeys()
	if refusal == nil {
		refusal = noBody(r)
	}
	id := r.PathValue("id")
	if refusal == nil {
		refusal = task.CheckText("id", id)
	}
	if refusal != nil {
		return refusal
	}
	key, refusal := s.revokeKeyFor(r.Context(), identityOf(r), id)
	if refusal != nil {
		return refusal
	}
	return s.encode(w, struct {
		OK bool `json:"ok"`
		shownKey
	}{true, showKey(&key)})
}

// createKeyFor makes a key for a client, and logs it.
func (s *Server) createKeyFor(ctx context.Context, by *auth.Identity, name string, grants []string, lifetime time.Duration) (auth.NewKey, *task.Error) {
	made, refusal := s.verifier.Keys.Create(ctx, by, name, grants, lifetime)
	if refusal == nil {
		s.config.Logger.Info("a key was made", "key", made.ID, "name", made.Name, "by", made.By)
	}
	return made, refusal
}

// revokeKeyFor revokes a key for a client, and logs it.
func (s *Server) revokeKeyFor(ctx context.Context, by *auth.Identity, id string) (task.AccessKey, *task.Error) {
	key, refusal := s.verifier.Keys.Revoke(ctx, by, id)
	if refusal == nil {
		s.config.Logger.Info("a key was revoked", "key", key.ID, "name", key.Name, "by", by.Name)
	}
	return key, refusal
}

// mintPass makes a pass of the client's own key.
//
//	→ POST /v1/passes {"sub":"user-7","grants":["run:*","see:own"],"expires":900}
//	← 200 {"ok":true,"pass":"eyJ…","expires_s":900}
func (s *Server) mintPass(w http.ResponseWriter, r *http.Request) *task.Error {
	var asked struct {
		Subject string   `json:"sub"`
		Grants  []string `json:"grants"`
		Expires *float64 `json:"expires"`
	}
	refusal := s.needKeys()
	if refusal == nil {
		refusal = s.decode(w, r, &asked)
	}
	if refusal != nil {
		return refusal
	}
	lifetime, refusal := spanOf(asked.Expires, auth.DefaultPass, auth.MaxPass)
	if refusal != nil {
		return refusal
	}
	pass, refusal := s.verifier.Keys.Mint(r.Context(), identityOf(r), asked.Subject, asked.Grants, lifetime)
	if refusal != nil {
		return refusal
	}
	return s.encode(w, struct {
		OK      bool    `json:"ok"`
		Pass    string  `json:"pass"`
		Expires float64 `json:"expires_s"`
	}{true, pass, lifetime.Seconds()})
}

// spanOf returns the time that a number of seconds means.
func spanOf(seconds *float64, missing, most time.Duration) (time.Duration, *task.Error) {
	if seconds == nil {
		return missing, nil
	}
	if !(*seconds > 0) || *seconds > most.Seconds() {
		return 0, task.RefuseField(task.InvalidRequest, "expires", "expires must be a number of seconds, more than 0 and at most %.0f", most.Seconds())
	}
	return time.Duration(*seconds * float64(time.Second)), nil
}

// login checks a token and has the browser keep it. Requests with the cookie are those of its owner.
//
//	→ POST /v1/session {"token":"posta_…"}
//	← 200 {"ok":true,"name":"web","scopes":["all"]}
func (s *Server) login(w http.ResponseWriter, r *http.Request) *task.Error {
	var asked struct {
		Token string `json:"token"`
	}
	refusal := s.refuseLogin(r)
	if refusal == nil {
		refusal = s.decode(w, r, &asked)
	}
	if refusal != nil {
		return refusal
	}
	who := s.verifier.Check(r.Context(), []byte(asked.Token))
	if who == nil || asked.Token == "" {
		w.Header().Set("Connection", "close")
		return task.Refuse(task.Unauthenticated, "the token is not known to this node")
	}
	s.known(w, r)
	auth.SetSession(w, asked.Token)
	return s.encode(w, struct {
		OK     bool     `json:"ok"`
		Name   string   `json:"name"`
		Scopes []string `json:"scopes"`
	}{true, who.Name, who.Scopes()})
}

// logout has the browser forget its token.
//
//	→ DELETE /v1/session
//	← 200 {"ok":true}
func (s *Server) logout(w http.ResponseWriter, r *http.Request) *task.Error {
	refusal := s.refuseLogin(r)
	if refusal == nil {
		refusal = noBody(r)
	}
	if refusal != nil {
		return refusal
	}
	auth.EndSession(w)
	return s.result(w, []byte(`{"ok":true}`))
}

// decode reads a body that is an object with the members of into and no others.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, into any) *task.Error {
	counted := s.account(r)
	defer counted.close()
	body, refusal := s.readBody(w, r, counted)
	if refusal != nil {
		return refusal
	}
	if err := wire.Valid(body); err != nil {
		return &task.Error{Code: task.InvalidJSON, Message: "invalid json", Detail: err.Error()}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return &task.Error{Code: task.InvalidRequest, Message: "the body is not what this route takes", Detail: err.Error()}
	}
	return nil
}

// encode answers with an object.
func (s *Server) encode(w http.ResponseWriter, value any) *task.Error {
	text, err := json.Marshal(value)
	if err != nil {
		return task.Refuse(task.Internal, "the answer cannot be written: %v", err)
	}
	return s.result(w, text)
}
