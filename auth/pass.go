package auth

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/posta-tasks/posta/task"
)

const (
	// maxPassBytes is the length of a pass, as of any other token here.
	maxPassBytes = 4 << 10
	// DefaultPass and MaxPass are how long a pass is valid.
	DefaultPass = 15 * time.Minute
	// MaxPass is how long a pass is valid at most.
	MaxPass = 24 * time.Hour
	// maxMasterPass is how long a pass is valid that is signed with the master secret itself.
	maxMasterPass = 5 * time.Minute
	// clockSkew is how much the clock of the signer may be ahead of the node's when the node checks MaxPass.
	clockSkew = time.Minute
	// passType is the type in the header of a pass, so that no other token counts as one.
	passType = "posta+jwt"
)

// claims are what a pass says.
type claims struct {
	jwt.RegisteredClaims
	Grants []string `json:"grants"`
}

// IsOver reports whether the identity has ended.
func (i *Identity) IsOver(now time.Time) bool { return !i.Expires.IsZero() && !now.Before(i.Expires) }

// isPass reports whether the identity is that of a pass, rather than of the key itself.
func (i *Identity) isPass() bool { return i.Key != "" && i.Subject != keyOwner+i.Key }

// checkPass checks a pass: its signature, its time, its audience and its key.
func (k *Keyring) checkPass(ctx context.Context, text string) (*Identity, error) {
	var said claims
	var held *heldKey
	key := func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		_, critical := token.Header["crit"]
		if token.Header["typ"] != passType || critical || id == "" {
			return nil, errors.New("its header is not one of a pass")
		}
		if id == masterKey {
			held = &heldKey{AccessKey: task.AccessKey{ID: masterKey}, grants: []Grant{everything()}}
		} else if len(id) == keyIDBytes {
			held = k.lookup(id)
		}
		if held == nil { // it may be genuine, so the signature is checked before the store is read
			held = &heldKey{AccessKey: task.AccessKey{ID: id}}
		}
		return []byte(k.Master.SigningSecret(id)), nil
	}
	_, err := jwt.ParseWithClaims(text, &said, key, jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), jwt.WithAudience(k.Cluster), jwt.WithTimeFunc(k.Now))
	if err != nil {
		return nil, err
	}
	most := MaxPass
	if held.ID == masterKey {
		most = maxMasterPass
	} else if held = k.find(ctx, held.ID); held == nil {
		return nil, errors.New("its key is not valid")
	}
	if said.ExpiresAt.After(k.Now().Add(most + clockSkew)) {
		return nil, errors.New("it is valid for too long")
	}
	if refusal := checkSubject(said.Subject); refusal != nil {
		return nil, refusal
	}
	grants, err := ParseGrants(said.Grants)
	if err != nil {
		return nil, err
	}
	return NewIdentity(Identity{Name: said.Subject, Subject: said.Subject, Key: held.ID, Expires: said.ExpiresAt.Time}, grants, held.grants), nil
}

// checkSubject refuses a subject that cannot be an owner of tasks, or that is the owner of those of another kind of token.
func checkSubject(subject string) *task.Error {
	if len(subject) == 0 || len(subject) > task.MaxOwner {
		return task.RefuseField(task.InvalidRequest, "sub", "sub has %d bytes, 1 to %d are allowed", len(subject), task.MaxOwner)
	}
	for _, prefix := range []string{tokenOwner, certificateOwner, keyOwner} {
		if strings.HasPrefix(subject, prefix) {
			return task.RefuseField(task.InvalidRequest, "sub", "sub must not begin with %s", prefix)
		}
	}
	if refusal := task.CheckText("sub", subject); refusal != nil {
		return refusal
	}
	return task.CheckName("sub", subject)
}

// SignPass returns a pass that is signed with the secret of a key. lifetime counts from now.
func SignPass(secret, id, cluster, subject string, grants []string, now time.Time, lifetime time.Duration) (string, *task.Error) {
	if refusal := checkSubject(subject); refusal != nil {
		return "", refusal
	}
	if lifetime <= 0 || lifetime > MaxPass {
		return "", task.RefuseField(task.InvalidRequest, "expires", "a pass is valid for more than 0 and at most %.0f seconds", MaxPass.Seconds())
	}
	if _, err := ParseGrants(grants); err != nil {
		return "", task.RefuseField(task.InvalidRequest, "grants", "%v", err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: subject, Audience: jwt.ClaimStrings{cluster}, ExpiresAt: jwt.NewNumericDate(now.Add(lifetime))},
		Grants:           grants,
	})
	token.Header["typ"], token.Header["kid"] = passType, id
	text, err := token.SignedString([]byte(secret))
	if err != nil {
		return "", task.Refuse(task.Internal, "the pass cannot be signed")
	}
	if len(text) > maxPassBytes {
		return "", task.RefuseField(task.InvalidRequest, "grants", "the pass has %d bytes, at most %d are allowed", len(text), maxPassBytes)
	}
	return text, nil
}

// Mint returns a pass for a client that may mint. The pass is of the client's own key, and may do only what the client may.
// It is in the audit before it is returned.
func (k *Keyring) Mint(ctx context.Context, by *Identity, subject string, grants []string, lifetime time.Duration) (string, *task.Error) {
	if by.Key == "" {
		return "", task.Refuse(task.Forbidden, "a pass belongs to a key, and the token is not one; posta key create makes one")
	}
	if _, refusal := delegated(by, grants); refusal != nil {
		return "", refusal
	}
	if by.isPass() && k.Now().Add(lifetime).After(by.Expires) {
		return "", task.RefuseField(task.Forbidden, "expires", "a pass cannot outlive the one that mints it")
	}
	if by.Key == masterKey && lifetime > maxMasterPass {
		return "", task.RefuseField(task.InvalidRequest, "expires", "a pass of the master key is valid for at most %.0f seconds", maxMasterPass.Seconds())
	}
	pass, refusal := SignPass(k.Master.SigningSecret(by.Key), by.Key, k.Cluster, subject, grants, k.Now(), lifetime)
	if refusal != nil {
		return "", refusal
	}
	detail := task.AuditDetail(struct {
		Grants  []string `json:"grants"`
		Expires float64  `json:"expires_s"`
	}{grants, lifetime.Seconds()})
	if err := k.Store.AddAudit(ctx, task.AuditOf(audited(ctx, by), task.AuditMintPass, detail, subject)); err != nil {
		return "", refusalOf(err)
	}
	return pass, nil
}

// OperatorPass returns a pass that allows everything for a minute. It needs only the master secret, so it can make the first
// key.
func (m Master) OperatorPass(cluster string, now time.Time) (string, *task.Error) {
	return SignPass(m.SigningSecret(masterKey), masterKey, cluster, "operator", []string{everyVerb.String()}, now, time.Minute)
}

// Verifier checks what clients present: tokens of a file, keys and passes.
type Verifier struct {
	Tokens *Tokens  // nil: there is no file
	Keys   *Keyring // nil: there are no keys
}

// IsOpen reports whether a client without a token may do everything.
func (v Verifier) IsOpen() bool { return v.Tokens == nil && (v.Keys == nil || !v.Keys.Required) }

// Check returns the identity of a token; nil if it is not valid. If the node is open, a token that is neither a key nor a
// pass is not looked at.
func (v Verifier) Check(ctx context.Context, token []byte) *Identity {
	if v.Tokens != nil {
		if who := v.Tokens.Check(token); who != nil {
			return who
		}
	}
	if v.Keys != nil && (LooksLikeOurs(token) || !v.IsOpen()) {
		return v.Keys.Check(ctx, token)
	}
	if v.IsOpen() {
		return Open()
	}
	return nil
}
