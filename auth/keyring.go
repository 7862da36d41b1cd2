package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// keyPrefix begins the text of every key, so that programs that search for leaked secrets find it.
	keyPrefix = "posta_"
	// keyIDBytes is the length of a random id. 60 bits do not occur twice.
	keyIDBytes = 12
	// minMasterBytes and maxMasterBytes limit the master secret.
	minMasterBytes, maxMasterBytes = 32, 4 << 10
	// lookKeys is how often a node reads the keys, so that a revocation holds everywhere within twice as long.
	lookKeys = time.Second
	// noteUse is how often a node records in the store which keys were used.
	noteUse = time.Minute
	// keysTimeout limits one read of the keys.
	keysTimeout = 2 * time.Second
	// PassGrace is how long a connection may stay when its pass has ended, so that the client can send another one.
	PassGrace = 10 * time.Second
	// keyOwner begins the owner of the tasks of a key.
	keyOwner = "key:"
	// masterKey is the id of the key that every node knows without a store. Only a holder of the master secret can sign its passes.
	masterKey = "master"
)

// lower is the alphabet of ids and secrets.
func lower() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// Master is the secret from which the secrets of all keys are derived. All nodes that share a store have the same.
type Master []byte

// LoadMaster reads the file with the master secret, which has at least 32 bytes. It refuses a file that everybody can read,
// as LoadTokens does.
func LoadMaster(path string) (Master, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("master key: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("master key %s: it is not a regular file", path)
	case info.Mode().Perm()&0o037 != 0:
		return nil, fmt.Errorf("master key %s: everybody can read it, or its group can change it (mode %#o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxMasterBytes+1))
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	master := Master(bytes.TrimSpace(text))
	if len(master) < minMasterBytes || len(master) > maxMasterBytes {
		return nil, fmt.Errorf("master key %s: it has %d bytes, %d to %d are allowed: head -c 32 /dev/urandom | base64 makes one", path, len(master), minMasterBytes, maxMasterBytes)
	}
	return master, nil
}

// EnsureMaster is LoadMaster, but first makes the file with a random secret if it does not exist.
func EnsureMaster(path string) (Master, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return LoadMaster(path)
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(randomBytes(minMasterBytes)) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("master key: %w", err), os.Remove(path))
	}
	return LoadMaster(path)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

// derive returns the secret for a purpose.
func (m Master) derive(purpose, id string) []byte {
	mac := hmac.New(sha256.New, m)
	mac.Write([]byte(purpose + ":" + id))
	return mac.Sum(nil)
}

// Text returns the key with an id, as a client presents it.
func (m Master) Text(id string) string {
	return keyPrefix + id + "_" + lower().EncodeToString(m.derive("key", id))
}

// SigningSecret returns the secret with which the passes of a key are signed: the bytes of this text.
func (m Master) SigningSecret(id string) string {
	return base64.RawURLEncoding.EncodeToString(m.derive("pass", id))
}

// KeyStore is what a Keyring needs of the store.
type KeyStore interface {
	AddKey(ctx context.Context, key task.AccessKey) (task.AccessKey, error)
	AccessKeys(ctx context.Context) ([]task.AccessKey, error)
	RevokeKey(ctx context.Context, id string) (task.AccessKey, error)
	UseKeys(ctx context.Context, ids []string) error
	AddAudit(ctx context.Context, entries []task.AuditEntry) error
}

// KeyringConfig configures a Keyring.
type KeyringConfig struct {
	Master   Master       // required
	Store    KeyStore     // required
	Cluster  string       // the audience of passes; "": posta
	Required bool         // clients must present a token; otherwise those without one may do everything
	Logger   *slog.Logger // nil: no logs
	Now      func() time.Time
}

// Keyring knows the keys of the store, and checks keys and passes without reading it. It is safe for concurrent use.
type Keyring struct {
	KeyringConfig
	away    bool        // the store did not answer the last read; used by Run only
	revoked wait.Signal // Run looks at the watchers at once

	mu       sync.Mutex // guards the fields below
	known    map[string]*heldKey
	used     map[string]bool // since the last noteUsed
	watchers map[*watcher]bool
}

// heldKey is a key as the ring knows it.
type heldKey struct {
	task.AccessKey
	grants []Grant
	who    *Identity
}

// NewKeyring returns a ring. The caller calls Run.
func NewKeyring(config KeyringConfig) (*Keyring, error) {
	if len(config.Master) < minMasterBytes || config.Store == nil {
		return nil, errors.New("auth: a keyring needs a master secret and a store")
	}
	if config.Cluster == "" {
		config.Cluster = "posta"
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Keyring{KeyringConfig: config, revoked: wait.NewSignal(), known: map[string]*heldKey{}, used: map[string]bool{}, watchers: map[*watcher]bool{}}, nil
}

// Run reads the keys each second until ctx ends, and ends the watches of keys that were revoked or have expired. It returns
// when what they call has returned.
func (k *Keyring) Run(ctx context.Context) {
	var ending sync.WaitGroup
	defer ending.Wait()
	look := time.NewTicker(lookKeys)
	defer look.Stop()
	noted := k.Now()
	for {
		err := k.refresh(ctx)
		if away := err != nil && ctx.Err() == nil; away != k.away {
			if k.away = away; away {
				k.Logger.Warn("the keys cannot be read, so a revocation is not noticed", "error", err)
			} else {
				k.Logger.Info("the keys can be read again")
			}
		}
		for _, end := range k.overdue() {
			ending.Go(end)
		}
		if now := k.Now(); now.Sub(noted) >= noteUse {
			noted = now
			k.noteUsed(ctx)
		}
		select {
		case <-look.C:
		case <-k.revoked:
		case <-ctx.Done():
			return
		}
	}
}

// refresh reads the keys.
func (k *Keyring) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	list, err := k.Store.AccessKeys(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]*heldKey, len(list))
	for _, key := range list {
		held := &heldKey{AccessKey: key}
		var err error
		if held.grants, err = ParseGrants(key.Grants); err != nil { // of a later release: it allows nothing here
			k.Logger.Warn("a key has a grant that this release does not know", "key", key.ID, "error", err)
			continue
		}
		held.who = NewIdentity(Identity{Name: key.Name, Subject: keyOwner + key.ID, Key: key.ID, Expires: key.Expires}, held.grants, nil)
		known[key.ID] = held
	}
	k.mu.Lock()
	k.known = known
	k.mu.Unlock()
	return nil
}

// noteUsed records in the store which keys were used.
func (k *Keyring) noteUsed(ctx context.Context) {
	k.mu.Lock()
	ids := slices.Sorted(maps.Keys(k.used))
	k.used = map[string]bool{}
	k.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	if err := k.Store.UseKeys(ctx, ids); err != nil {
		k.Logger.Debug("the use of keys is not recorded", "error", err)
	}
}

// Check returns the identity of a key or a pass; nil if it is not valid.
func (k *Keyring) Check(ctx context.Context, token []byte) *Identity {
	if len(token) > maxPassBytes {
		return nil
	}
	text := string(token)
	if strings.HasPrefix(text, keyPrefix) {
		return k.checkKey(ctx, text)
	}
	who, err := k.checkPass(ctx, text)
	if err != nil {
		k.Logger.Debug("a pass was refused", "error", err) // the error does not contain it
		return nil
	}
	return who
}

// LooksLikeOurs reports whether a token has the form of a key or a pass.
func LooksLikeOurs(token []byte) bool {
	return bytes.HasPrefix(token, []byte(keyPrefix)) || bytes.Count(token, []byte{'.'}) == 2
}

// checkKey checks a key.
func (k *Keyring) checkKey(ctx context.Context, text string) *Identity {
	id, _, _ := strings.Cut(strings.TrimPrefix(text, keyPrefix), "_")
	if len(id) != keyIDBytes || !hmac.Equal([]byte(k.Master.Text(id)), []byte(text)) {
		return nil
	}
	held := k.find(ctx, id)
	if held == nil {
		return nil
	}
	return held.who
}

// find returns a key that is valid now. A genuine key that is not known yet was made on another node. Forged keys
// do not get here, so clients without a key cannot cause reads of the store.
func (k *Keyring) find(ctx context.Context, id string) *heldKey {
	held := k.lookup(id)
	if held == nil && k.refresh(ctx) == nil {
		held = k.lookup(id)
	}
	if held == nil || !held.Revoked.IsZero() || held.isOver(k.Now()) {
		return nil
	}
	k.mu.Lock()
	k.used[id] = true
	k.mu.Unlock()
	return held
}

func (k *Keyring) lookup(id string) *heldKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[id]
}

// isOver reports whether the key has ended.
func (h *heldKey) isOver(now time.Time) bool { return !h.Expires.IsZero() && !now.Before(h.Expires) }

// watcher is something that ends when its identity does.
type watcher struct {
	who *Identity
	end func()
}

// Watch has Run call end, once and on a goroutine of its own, when the key of an identity was revoked, or PassGrace after its token
// has ended. stop ends the watch. An identity without a key needs none.
func (k *Keyring) Watch(who *Identity, end func()) (stop func()) {
	if k == nil || who == nil || who.Key == "" {
		return func() {}
	}
	w := &watcher{who, end}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watchers[w] = true
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers, w)
	}
}

// overdue removes the watches of identities whose key or pass is no longer valid, and returns what they call.
func (k *Keyring) overdue() (ends []func()) {
	now := k.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for w := range k.watchers {
		held := k.known[w.who.Key]
		valid := w.who.Key == masterKey || held != nil && held.Revoked.IsZero() && !held.isOver(now.Add(-PassGrace))
		if !valid || w.who.IsOver(now.Add(-PassGrace)) {
			delete(k.watchers, w)
			ends = append(ends, w.end)
		}
	}
	return ends
}

// NewKey is a key that was just made. Its secrets are shown once.
type NewKey struct {
	task.AccessKey
	Text          string
	SigningSecret string
}

// Create makes a key for a client. The client may give only grants that it has itself. lifetime 0 means for ever.
func (k *Keyring) Create(ctx context.Context, by *Identity, name string, grants []string, lifetime time.Duration) (NewKey, *task.Error) {
	parsed, refusal := delegated(by, grants)
	if refusal != nil {
		return NewKey{}, refusal
	}
	if by.isPass() && by.Key != masterKey {
		return NewKey{}, task.Refuse(task.Forbidden, "a pass makes no keys, since they would outlive it; use a key")
	}
	if err := checkName(name); err != nil || name == "" {
		return NewKey{}, task.RefuseField(task.InvalidRequest, "name", "name must be 1 to %d letters, digits, dots, hyphens and underscores", maxNameBytes)
	}
	id := lower().EncodeToString(randomBytes(8))[:keyIDBytes]
	key := task.AccessKey{ID: id, Name: name, Grants: Texts(parsed), By: by.Name}
	if lifetime > 0 {
		key.Expires = k.Now().Add(lifetime)
	}
	key, err := k.Store.AddKey(audited(ctx, by), key)
	if err == nil {
		err = k.refresh(ctx)
	}
	if err != nil {
		return NewKey{}, refusalOf(err)
	}
	return NewKey{AccessKey: key, Text: k.Master.Text(id), SigningSecret: k.Master.SigningSecret(id)}, nil
}

// audited returns a context in which changes are those of a client.
func audited(ctx context.Context, by *Identity) context.Context {
	return task.WithAudit(ctx, task.Audited{Author: by.Author()})
}

// delegated parses grants that a client gives away. It refuses those that the client does not have.
func delegated(by *Identity, grants []string) ([]Grant, *task.Error) {
	parsed, err := ParseGrants(grants)
	if err != nil {
		return nil, task.RefuseField(task.InvalidRequest, "grants", "%v", err)
	}
	if outside, ok := by.Delegates(parsed); !ok {
		return nil, task.RefuseField(task.Forbidden, "grants", "the token may not give away %s, since it does not have it", outside)
	}
	return parsed, nil
}

// List returns the keys.
func (k *Keyring) List(ctx context.Context) ([]task.AccessKey, *task.Error) {
	keys, err := k.Store.AccessKeys(ctx)
	if err != nil {
		return nil, refusalOf(err)
	}
	return keys, nil
}

// Revoke revokes a key for good. A client may revoke only keys that can do no more than itself.
func (k *Keyring) Revoke(ctx context.Context, by *Identity, id string) (task.AccessKey, *task.Error) {
	keys, err := k.Store.AccessKeys(ctx)
	if err != nil {
		return task.AccessKey{}, refusalOf(err)
	}
	if i := slices.IndexFunc(keys, func(key task.AccessKey) bool { return key.ID == id }); i >= 0 {
		if grants, err := ParseGrants(keys[i].Grants); err != nil && !by.isAdmin() {
			return task.AccessKey{}, task.Refuse(task.Forbidden, "the key %s has grants that this release does not know", id)
		} else if outside, ok := by.Delegates(grants); err == nil && !ok {
			return task.AccessKey{}, task.Refuse(task.Forbidden, "the key %s has the grant %s, which the token does not have", id, outside)
		}
	}
	key, err := k.Store.RevokeKey(audited(ctx, by), id)
	if err == nil {
		err = k.refresh(ctx)
	}
	if err != nil {
		return task.AccessKey{}, refusalOf(err)
	}
	k.revoked.Set()
	return key, nil
}

func refusalOf(err error) *task.Error {
	var refusal *task.Error
	if errors.As(err, &refusal) {
		return refusal
	}
	return task.Refuse(task.Unavailable, "the store does not answer")
}
