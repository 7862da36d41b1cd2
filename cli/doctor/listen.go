package doctor

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/posta-tasks/posta/client"
)

// listenAddress checks whether the address on which a node would listen is free, and whether its clients must
// authenticate.
func (s Subject) listenAddress(ctx context.Context, listen string) []Finding {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return []Finding{fault("write it as HOST:PORT, for example 127.0.0.1:9001", "%s", err)}
	}
	return []Finding{s.judgeFree(ctx, addr), s.judgeAccess(addr)}
}

// judgeFree listens on the address for a moment.
func (s Subject) judgeFree(ctx context.Context, addr *net.TCPAddr) Finding {
	listener, err := net.ListenTCP("tcp", addr)
	switch {
	case err == nil:
		listener.Close()
		return good("%s is free", s.Listen)
	case errors.Is(err, syscall.EADDRINUSE):
		return s.judgeHolder(ctx, addr)
	case errors.Is(err, syscall.EACCES):
		return fault("choose a port from 1024, or give the program the right: AmbientCapabilities=CAP_NET_BIND_SERVICE", "%s", err)
	}
	return fault("choose an address of this machine: ip address", "%s", err)
}

// judgeHolder judges the process that listens on the address already.
func (s Subject) judgeHolder(ctx context.Context, addr *net.TCPAddr) Finding {
	who := "another program"
	if name := holder(addr.Port); name != "" {
		who = name
	}
	if answers(ctx, addr) {
		return doubt("nothing, if it is to be replaced by this one: it must end first", "%s is held by %s, which is a posta", s.Listen, who)
	}
	return fault("end it, or choose another address with --listen", "%s is held by %s", s.Listen, who)
}

// answers reports whether a node of Posta listens on the address. Nodes answer a ping without a token.
func answers(ctx context.Context, addr *net.TCPAddr) bool {
	to := *addr
	if to.IP == nil || to.IP.IsUnspecified() {
		to.IP = net.IPv4(127, 0, 0, 1)
	}
	c, err := client.New(client.Config{Connections: 1, ConnectWait: -1, Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	}})
	if err != nil {
		return false
	}
	defer c.Close()
	return c.Ping(ctx) == nil
}

// judgeAccess judges who can connect.
func (s Subject) judgeAccess(addr *net.TCPAddr) Finding {
	var f Finding
	switch {
	case addr.IP.IsLoopback():
		f = good("only this machine reaches %s", s.Listen)
	case s.Tokens != "" || s.Certificates.ClientCA != "":
		f = good("other machines reach %s, and must authenticate", s.Listen)
	default:
		f = fault("--token-file FILE or --tls-client-ca FILE asks them; --insecure admits every client",
			"other machines can reach %s, and no client would have to authenticate: a node refuses to start like this", s.Listen)
	}
	return f.of("listen access")
}
