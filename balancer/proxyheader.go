package balancer

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// The PROXY protocol, version 2, is a binary header at the start of a connection. It has the
// address of the client.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyLocal     = 0x20 // version 2, from the balancer itself: a health check
	proxyClient    = 0x21 // version 2, for a client
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

// proxyHeader returns the header for the connection of client.
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

// localProxyHeader returns the header for the balancer's own connections.
func localProxyHeader() []byte {
	return append([]byte(proxySignature), proxyLocal, 0, 0, 0)
}

// endpoint returns a TCP address as a value, with IPv4 unmapped.
func endpoint(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	end := tcp.AddrPort()
	return netip.AddrPortFrom(end.Addr().Unmap().WithZone(""), end.Port())
}
