package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const someMaster = "a-master-secret-of-more-than-32-bytes-for-tests"

// newRing returns a ring with a store in memory, and the store.
func newRing(t *testing.T, change ...func(*auth.KeyringConfig)) (*auth.Keyring, *store.Memory) {
	t.Helper()
	kept := store.NewMemory(store.MemoryConfig{})
	config := auth.KeyringConfig{Master: auth.Master(someMaster), Store: kept, Required: true}
	for _, c := range change {
		c(&config)
	}
	ring, err := auth.NewKeyring(config)
	if err != nil {
		t.Fatal(err)
	}
	return ring, kept
}

// create makes a key that everybody may give away.
func create(t *testing.T, ring *auth.Keyring, lifetime time.Duration, grants ...string) auth.NewKey {
	t.Helper()
	key, refusal := ring.Create(t.Context(), auth.Open(), "web", grants, lifetime)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return key
}

func TestAKeyIsKnownOnEveryNodeAndItsSecretIsInNoStore(t *testing.T) {
	t.Parallel()
	ring, kept := newRing(t)
	other, err := auth.NewKeyring(auth.KeyringConfig{Master: auth.Master(someMaster), Store: kept})
	if err != nil {
		t.Fatal(err)
	}
	key := create(t, ring, 0, "see:own", "run:*")
	for _, r := range []*auth.Keyring{ring, other} { // other has never read the store
		who := r.Check(t.Context(), []byte(key.Text))
		if who == nil || who.Name != "web" || who.Key != key.ID || who.Subject != "key:"+key.ID || !auth.Authorize(who, auth.Run, auth.Resource{Action: "a"}) {
			t.Errorf("the key is %+v", who)
		}
	}
	keys, err := kept.AccessKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(keys)
	_, secret, _ := strings.Cut(strings.TrimPrefix(key.Text, "posta_"), "_")
	if err != nil || strings.Contains(string(text), secret) || strings.Contains(string(text), key.SigningSecret) {
		t.Errorf("the store has a secret: %s", text)
	}
}

func TestForgedKeysAreRefusedWithoutReadingTheStore(t *testing.T) {
	t.Parallel()
	ring, kept := newRing(t)
	key := create(t, ring, 0, "*")
	ring.Store = nil // reading it would panic
	end := key.Text[len(key.Text)-1:]
	otherEnd := map[bool]string{true: "b", false: "a"}[end == "a"]
	for _, text := range []string{
		"", "posta_", "posta__", "posta_" + key.ID, "posta_" + key.ID + "_", key.Text + "a", key.Text + "_", " " + key.Text, strings.ToUpper(key.Text), key.Text[:len(key.Text)-1] + otherEnd,
		strings.Replace(key.Text, key.ID, "aaaaaaaaaaaa", 1), auth.Master(strings.Repeat("x", 32)).Text(key.ID), "posta_master_" + strings.Repeat("a", 52), auth.Master(someMaster).Text("master"),
		strings.Repeat("posta_", 1000), key.SigningSecret,
	} {
		if who := ring.Check(t.Context(), []byte(text)); who != nil {
			t.Errorf("%.80q is %+v", text, who)
		}
	}
	ring.Store = kept
}

func TestARevokedKeyEndsWhatUsesItEverywhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ring, kept := newRing(t)
		other, _ := newRing(t, func(c *auth.KeyringConfig) { c.Store = kept })
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { other.Run(ctx) })
		key := create(t, ring, 0, "*")
		who := other.Check(ctx, []byte(key.Text))
		if who == nil {
			t.Fatal("the key is not known")
		}
		ended := make(chan time.Time, 1)
		other.Watch(who, func() { ended <- time.Now() })
		start := time.Now()
		if _, refusal := ring.Revoke(ctx, auth.Open(), key.ID); refusal != nil {
			t.Fatal(refusal)
		}
		if ring.Check(ctx, []byte(key.Text)) != nil {
			t.Error("the node that revoked the key still takes it")
		}
		if took := (<-ended).Sub(start); took > 2*time.Second {
			t.Errorf("the other node has noticed after %s", took)
		}
		if other.Check(ctx, []byte(key.Text)) != nil {
			t.Error("the other node still takes the key")
		}
		stop()
		running.Wait()
	})
}

func TestAKeyEndsAtItsTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	ring, _ := newRing(t, func(c *auth.KeyringConfig) { c.Now = func() time.Time { return now } })
	key := create(t, ring, time.Hour, "*")
	now = now.Add(time.Hour - time.Second)
	if ring.Check(t.Context(), []byte(key.Text)) == nil {
		t.Error("it ends early")
	}
	now = now.Add(time.Second)
	if ring.Check(t.Context(), []byte(key.Text)) != nil {
		t.Error("it does not end")
	}
}

func TestNobodyMakesOrRevokesAKeyThatMayDoMore(t *testing.T) {
	t.Parallel()
	ring, _ := newRing(t)
	admin := create(t, ring, 0, "*")
	manager := ring.Check(t.Context(), []byte(create(t, ring, 0, "manage:*", "see:mail", "mint:*").Text))
	for _, grants := range [][]string{{"*"}, {"see:*"}, {"see:own"}, {"cancel:mail"}} {
		if _, refusal := ring.Create(t.Context(), manager, "x", grants, 0); refusal == nil || refusal.Code != task.Forbidden {
			t.Errorf("%q: %v", grants, refusal)
		}
	}
	if _, refusal := ring.Revoke(t.Context(), manager, admin.ID); refusal == nil || refusal.Code != task.Forbidden {
		t.Errorf("a manager revokes the key of an admin: %v", refusal)
	}
	if _, refusal := ring.Revoke(t.Context(), manager, "aaaaaaaaaaaa"); refusal == nil || refusal.Code != task.NotFound {
		t.Errorf("a key that is not there: %v", refusal)
	}
	small, refusal := ring.Create(t.Context(), manager, "x", []string{"see:mail@q"}, 0)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := ring.Revoke(t.Context(), manager, small.ID); refusal != nil {
		t.Error(refusal)
	}
	for _, name := range []string{"", "a b", "a:b", strings.Repeat("x", 65)} {
		if _, refusal := ring.Create(t.Context(), auth.Open(), name, []string{"see:*"}, 0); refusal == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
}

// mint signs a pass with the secret of a key, as a program of somebody else would.
func mint(t *testing.T, key auth.NewKey, claims jwt.MapClaims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["typ"], token.Header["kid"] = "posta+jwt", key.ID
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString([]byte(key.SigningSecret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAPassMayDoWhatItAndItsKeyMay(t *testing.T) {
	t.Parallel()
	ring, _ := newRing(t)
	key := create(t, ring, 0, "run:*", "enqueue:mail", "see:own")
	pass := mint(t, key, jwt.MapClaims{"sub": "user-7", "aud": "posta", "exp": time.Now().Add(time.Minute).Unix(), "grants": []string{"*"}}, nil)
	who := ring.Check(t.Context(), []byte(pass))
	if who == nil || who.Subject != "user-7" || who.Key != key.ID || who.Expires.IsZero() {
		t.Fatalf("the pass is %+v", who)
	}
	for _, test := range []struct {
		verb auth.Verb
		on   auth.Resource
		want bool
	}{
		{auth.Run, auth.Resource{Action: "upper"}, true}, {auth.Enqueue, auth.Resource{Action: "mail", Queue: "q"}, true}, {auth.Enqueue, auth.Resource{Action: "upper"}, false},
		{auth.See, auth.Resource{Owner: "user-7"}, true}, {auth.See, auth.Resource{Owner: "user-8"}, false}, {auth.See, auth.Resource{Owner: "key:" + key.ID}, false},
		{auth.Manage, auth.Resource{}, false},
	} {
		if got := auth.Authorize(who, test.verb, test.on); got != test.want {
			t.Errorf("%s on %+v: %v", test.verb, test.on, got)
		}
	}
}

func TestHostilePassesAreRefused(t *testing.T) {
	t.Parallel()
	ring, _ := newRing(t)
	key, other := create(t, ring, 0, "*"), create(t, ring, 0, "*")
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	good := func(change func(jwt.MapClaims)) jwt.MapClaims {
		claims := jwt.MapClaims{"sub": "ana", "aud": "posta", "exp": in(time.Minute), "grants": []string{"see:own"}}
		change(claims)
		return claims
	}
	plain := good(func(jwt.MapClaims) {})
	if ring.Check(t.Context(), []byte(mint(t, key, plain, nil))) == nil {
		t.Fatal("a good pass is refused")
	}
	set := func(name string, value any) string {
		return mint(t, key, good(func(c jwt.MapClaims) { c[name] = value }), nil)
	}
	without := func(name string) string {
		return mint(t, key, good(func(c jwt.MapClaims) { delete(c, name) }), nil)
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, plain)
	unsigned.Header["typ"], unsigned.Header["kid"] = "posta+jwt", key.ID
	none, err := unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	signWith := func(method jwt.SigningMethod, secret any) string {
		token := jwt.NewWithClaims(method, plain)
		token.Header["typ"], token.Header["kid"] = "posta+jwt", key.ID
		text, err := token.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(mint(t, key, plain, nil), ".")
	admin := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"ana","aud":"posta","exp":99999999999,"grants":["*"]}`))
	passes := map[string]string{
		"expired":                  set("exp", in(-time.Second)),
		"without exp":              without("exp"),
		"exp too far":              set("exp", in(25*time.Hour)),
		"exp far beyond numbers":   set("exp", 1e300),
		"exp a string":             set("exp", "soon"),
		"not yet valid":            set("nbf", in(time.Hour)),
		"another cluster":          set("aud", "staging"),
		"without aud":              without("aud"),
		"no sub":                   without("sub"),
		"empty sub":                set("sub", ""),
		"sub of a token":           set("sub", "token:ana"),
		"sub of a certificate":     set("sub", "cert:ana"),
		"sub of a key":             set("sub", "key:"+other.ID),
		"sub with a control":       set("sub", "a\x00b"),
		"long sub":                 set("sub", strings.Repeat("x", 257)),
		"without grants":           without("grants"),
		"no grants":                set("grants", []string{}),
		"grants as a string":       set("grants", "see:own"),
		"an unknown grant":         set("grants", []string{"see:own", "fly:*"}),
		"too long":                 set("pad", strings.Repeat("x", 4096)),
		"alg none":                 none,
		"HS384":                    signWith(jwt.SigningMethodHS384, []byte(key.SigningSecret)),
		"RS256":                    signWith(jwt.SigningMethodRS256, private),
		"RS256 named HS256":        signWith(jwt.SigningMethodHS256, private.PublicKey.N.Bytes()),
		"another key's secret":     signWith(jwt.SigningMethodHS256, []byte(other.SigningSecret)),
		"the key itself as secret": signWith(jwt.SigningMethodHS256, []byte(key.Text)),
		"the decoded secret":       signWith(jwt.SigningMethodHS256, decoded(t, key.SigningSecret)),
		"an empty secret":          signWith(jwt.SigningMethodHS256, []byte{}),
		"claims exchanged":         parts[0] + "." + admin + "." + parts[2],
		"signature cut":            parts[0] + "." + parts[1] + ".",
		"signature with padding":   parts[0] + "." + parts[1] + "." + parts[2] + "=",
		"four parts":               strings.Join(parts, ".") + ".x",
		"two dots":                 "..",
		"typ JWT":                  mint(t, key, plain, map[string]any{"typ": "JWT"}),
		"no typ":                   mint(t, key, plain, map[string]any{"typ": nil}),
		"no kid":                   mint(t, key, plain, map[string]any{"kid": nil}),
		"kid a number":             mint(t, key, plain, map[string]any{"kid": 7}),
		"kid of another key":       mint(t, key, plain, map[string]any{"kid": other.ID}),
		"kid master":               mint(t, key, plain, map[string]any{"kid": "master"}),
		"crit":                     mint(t, key, plain, map[string]any{"crit": []string{"x"}}),
		"master for too long":      masterPass(t, time.Hour),
	}
	for name, pass := range passes {
		if who := ring.Check(t.Context(), []byte(pass)); who != nil {
			t.Errorf("%s: it is %+v", name, who)
		}
	}
	if ring.Check(t.Context(), []byte(masterPass(t, time.Minute))) == nil {
		t.Error("the operator's pass is refused")
	}
	unknown := auth.NewKey{AccessKey: task.AccessKey{ID: "aaaaaaaaaaaa"}, SigningSecret: auth.Master(someMaster).SigningSecret("aaaaaaaaaaaa")}
	if ring.Check(t.Context(), []byte(mint(t, unknown, plain, nil))) != nil {
		t.Error("a pass of a key that is not in the store is taken")
	}
	if _, refusal := ring.Revoke(t.Context(), auth.Open(), key.ID); refusal != nil {
		t.Fatal(refusal)
	}
	if ring.Check(t.Context(), []byte(mint(t, key, plain, nil))) != nil {
		t.Error("a pass of a revoked key is taken")
	}
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	secret, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func masterPass(t *testing.T, lifetime time.Duration) string {
	t.Helper()
	pass, refusal := auth.SignPass(auth.Master(someMaster).SigningSecret("master"), "master", "posta", "operator", []string{"*"}, time.Now(), lifetime)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return pass
}

func TestMintingGivesNoMoreThanOneHas(t *testing.T) {
	t.Parallel()
	ring, _ := newRing(t)
	backend := ring.Check(t.Context(), []byte(create(t, ring, 0, "mint:*", "run:*", "see:own").Text))
	pass, refusal := ring.Mint(t.Context(), backend, "user-7", []string{"mint:*", "run:upper", "see:own"}, time.Minute)
	if refusal != nil {
		t.Fatal(refusal)
	}
	who := ring.Check(t.Context(), []byte(pass))
	if who == nil || who.Subject != "user-7" || !auth.Authorize(who, auth.Run, auth.Resource{Action: "upper"}) || auth.Authorize(who, auth.Run, auth.Resource{Action: "fib"}) {
		t.Errorf("the pass is %+v", who)
	}
	for name, try := range map[string]func() (string, *task.Error){
		"more than the key": func() (string, *task.Error) {
			return ring.Mint(t.Context(), backend, "x", []string{"see:*"}, time.Minute)
		},
		"more than the pass": func() (string, *task.Error) { return ring.Mint(t.Context(), who, "x", []string{"run:*"}, time.Second) },
		"longer than the pass": func() (string, *task.Error) {
			return ring.Mint(t.Context(), who, "x", []string{"run:upper"}, time.Hour)
		},
		"without a key": func() (string, *task.Error) {
			return ring.Mint(t.Context(), auth.Open(), "x", []string{"run:*"}, time.Minute)
		},
		"for more than a day": func() (string, *task.Error) {
			return ring.Mint(t.Context(), backend, "x", []string{"run:*"}, 25*time.Hour)
		},
		"for somebody's own key": func() (string, *task.Error) {
			return ring.Mint(t.Context(), backend, "key:x", []string{"run:*"}, time.Minute)
		},
	} {
		if _, refusal := try(); refusal == nil {
			t.Errorf("%s: it is minted", name)
		}
	}
	if _, refusal := ring.Create(t.Context(), who, "x", []string{"run:upper"}, 0); refusal == nil {
		t.Error("a pass makes a key that outlives it")
	}
}

func TestWhatUsesAPassEndsAWhileAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ring, _ := newRing(t)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { ring.Run(ctx) })
		key := create(t, ring, 0, "*")
		who := ring.Check(ctx, []byte(mint(t, key, jwt.MapClaims{"sub": "ana", "aud": "posta", "exp": time.Now().Add(time.Minute).Unix(), "grants": []string{"*"}}, nil)))
		ended := make(chan time.Time, 1)
		start := time.Now()
		ring.Watch(who, func() { ended <- time.Now() })
		unused := ring.Watch(who, func() { t.Error("a watch that was stopped ends") })
		unused()
		took := (<-ended).Sub(start)
		if took < time.Minute+auth.PassGrace || took > time.Minute+auth.PassGrace+2*time.Second {
			t.Errorf("it has ended after %s", took)
		}
		stop()
		running.Wait()
	})
}

func TestAStoreThatIsAwayChangesNothing(t *testing.T) {
	t.Parallel()
	ring, kept := newRing(t)
	key := create(t, ring, 0, "see:*")
	kept.Close()
	if ring.Check(t.Context(), []byte(key.Text)) == nil {
		t.Error("a known key is refused while the store is away")
	}
	if _, refusal := ring.List(t.Context()); refusal == nil || refusal.Code != task.Unavailable {
		t.Errorf("the list: %v", refusal)
	}
}

func TestTheMasterKeyIsMadeOnceAndKeptSecret(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	first, err := auth.EnsureMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := auth.EnsureMaster(path)
	if err != nil || string(first) != string(second) {
		t.Errorf("%v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.LoadMaster(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that everybody can read: %v", err)
	}
	short := write(t, "short")
	if _, err := auth.LoadMaster(short); err == nil || strings.Contains(err.Error(), "short\n") {
		t.Errorf("a short secret: %v", err)
	}
	if _, err := auth.LoadMaster(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
