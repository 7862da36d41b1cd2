package durable

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strconv"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// A lease is TASK.FENCE: the claim that it is for. On a node that authenticates clients it is TASK.FENCE.SIGNATURE. The
// signature is of the claim and the client that received the lease, with the secret of the store. So any node with the store
// can check from the lease alone whether a client holds it, even after the node that granted it has died.

// Holder is a client that answers a lease, or takes it to another node.
type Holder struct {
	Name string                  // auth.Identity.Holder
	May  func(t *task.Task) bool // reports whether it may work a task
}

// lease is a parsed lease.
type lease struct {
	text      string
	task      string
	fence     int
	signature string
}

// parseLease parses a lease. It returns false if the lease is not one of a durable task.
func parseLease(text string) (l lease, ok bool) {
	l.text = text
	id, rest, _ := strings.Cut(text, ".")
	number, signature, _ := strings.Cut(rest, ".")
	fence, err := strconv.Atoi(number)
	l.task, l.fence, l.signature = id, fence, signature
	return l, err == nil && fence > 0
}

// claimText returns a lease without its signature.
func claimText(id string, fence int) string { return id + "." + strconv.Itoa(fence) }

// anyHolder is the holder of the lease of an action that the node runs itself: any client to which the action has sent it.
const anyHolder = ""

// holds reports whether a client holds a lease.
func (c *core) holds(holder Holder, l lease) bool {
	if !c.config.SignLeases {
		return true
	}
	claim, signed := claimText(l.task, l.fence), []byte("."+l.signature)
	return hmac.Equal(signed, []byte(c.sign(claim, holder.Name))) || hmac.Equal(signed, []byte(c.sign(claim, anyHolder)))
}

// sign returns the signature that completes the lease of a claim for a holder, with its dot; "" if leases are not signed.
func (c *core) sign(claim, holder string) string {
	if !c.config.SignLeases {
		return ""
	}
	mac := hmac.New(sha256.New, c.config.Store.Secret())
	_, _ = io.WriteString(mac, claim+"\x00"+holder)
	return "." + hex.EncodeToString(mac.Sum(nil)[:signatureBytes])
}

// signatureBytes is how many bytes of the MAC a lease contains.
const signatureBytes = 10
