package webhook

import (
	"fmt"
	"net/netip"
	"slices"
)

// special has the networks that are not public and that netip has no method for.
func special() map[string]string {
	return map[string]string{
		"0.0.0.0/8": "this network", "100.64.0.0/10": "shared by a carrier (CGNAT)", "192.0.0.0/24": "reserved", "192.0.2.0/24": "for documentation",
		"192.88.99.0/24": "a 6to4 relay", "198.18.0.0/15": "for benchmarks", "198.51.100.0/24": "for documentation", "203.0.113.0/24": "for documentation",
		"240.0.0.0/4": "reserved", "2001::/32": "a Teredo tunnel", "2001::/23": "reserved", "2001:db8::/32": "for documentation",
		"2002::/16": "a 6to4 tunnel", "3fff::/20": "for documentation", "64:ff9b:1::/48": "translated to a local IPv4 network",
	}
}

// addresses decides which addresses may be called.
type addresses struct {
	allow   []netip.Prefix
	special []network // the narrowest first
	global  netip.Prefix
	nat64   netip.Prefix
}

type network struct {
	netip.Prefix
	name string
}

func newAddresses(allow []netip.Prefix) *addresses {
	a := &addresses{allow: allow, global: netip.MustParsePrefix("2000::/3"), nat64: netip.MustParsePrefix("64:ff9b::/96")}
	for text, name := range special() {
		a.special = append(a.special, network{netip.MustParsePrefix(text), name})
	}
	slices.SortFunc(a.special, func(x, y network) int { return y.Bits() - x.Bits() })
	return a
}

// check refuses an address that is not public, unless it is allowed.
func (a *addresses) check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	inner, hasInner := a.embedded(addr)
	if a.allowed(addr) || hasInner && a.allowed(inner) {
		return nil
	}
	what := a.notPublic(addr)
	if hasInner && what == "" {
		what = a.notPublic(inner)
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("the address %s is refused: it is %s; add its network to allow in the actions file to permit it", addr, what)
}

func (a *addresses) allowed(addr netip.Addr) bool {
	return slices.ContainsFunc(a.allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// notPublic returns what kind of address it is if it is not public, otherwise "".
func (a *addresses) notPublic(addr netip.Addr) string {
	switch {
	case !addr.IsValid() || addr.IsUnspecified():
		return "no address of a host"
	case addr.IsLoopback():
		return "loopback"
	case addr.IsPrivate():
		return "private"
	case addr.IsLinkLocalUnicast():
		return "link-local"
	case addr.IsMulticast():
		return "multicast"
	}
	for _, n := range a.special {
		if n.Contains(addr) {
			return n.name
		}
	}
	if addr.Is6() && !a.global.Contains(addr) && !a.nat64.Contains(addr) {
		return "not public"
	}
	return ""
}

// embedded returns the IPv4 address to which a translator forwards packets for addr: with NAT64 (64:ff9b::/96) and
// with ISATAP (0:5efe before the IPv4 address).
func (a *addresses) embedded(addr netip.Addr) (inner netip.Addr, ok bool) {
	if !addr.Is6() {
		return inner, false
	}
	b := addr.As16()
	isatap := b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
	if !a.nat64.Contains(addr) && !isatap {
		return inner, false
	}
	return netip.AddrFrom4([4]byte(b[12:])), true
}
