package balancer

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// The PROXY protocol, version 2: a binary header before all else, which tells a
// node who its client is.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyLocal     = 0x20 // version 2, the balancer itself speaks: a health check
	proxyClient    = 0x21 // version 2, on behalf of a client
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

// proxyHeader is the header for a connection that the balancer took from client.
func proxyHeader(client net.Conn) []byte {
	source, target := endpoint(client.RemoteAddr()), endpoint(client.LocalAddr())
	family := byte(proxyTCP6)
	if source.Addr().Is4() && target.Addr().Is4() {
		family = proxyTCP4
	}
	var ends []byte
	for _, end := range []netip.AddrPort{source, target} {
		if family == proxyTCP4 {
			ends = append(ends, end.Addr().AsSlice()...)
		} else {
			address := end.Addr().As16()
			ends = append(ends, address[:]...)
		}
	}
	ends = binary.BigEndian.AppendUint16(ends, source.Port())
	ends = binary.BigEndian.AppendUint16(ends, target.Port())

	header := append([]byte(proxySignature), proxyClient, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(ends)))
	return append(header, ends...)
}

// localProxyHeader is the header for the balancer's own connections.
func localProxyHeader() []byte {
	return append([]byte(proxySignature), proxyLocal, 0, 0, 0)
}

// endpoint gives a TCP address as a value, IPv4 in its own family.
func endpoint(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	end := tcp.AddrPort()
	return netip.AddrPortFrom(end.Addr().Unmap().WithZone(""), end.Port())
}
