package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/posta-tasks/posta/client"
)

// Address is where a node would listen.
type Address struct {
	Listen string
	Asks   bool // clients for a token or a certificate
}

// Check looks whether the address is free, and who may come in there.
func (a Address) Check() Check {
	return Check{Part: "listen", Look: func(ctx context.Context) []Finding {
		addr, err := net.ResolveTCPAddr("tcp", a.Listen)
		if err != nil {
			return []Finding{Fault("write it as HOST:PORT, for example 127.0.0.1:9001", "%s", err)}
		}
		return []Finding{a.free(ctx, addr), a.closed(addr)}
	}}
}

// free opens the address for a moment.
func (a Address) free(ctx context.Context, addr *net.TCPAddr) Finding {
	listener, err := net.ListenTCP("tcp", addr)
	switch {
	case err == nil:
		listener.Close()
		return Good("%s is free", a.Listen)
	case errors.Is(err, syscall.EADDRINUSE):
		return a.held(ctx, addr)
	case errors.Is(err, syscall.EACCES):
		return Fault("choose a port from 1024, or give the program the right: AmbientCapabilities=CAP_NET_BIND_SERVICE", "%s", err)
	}
	return Fault("choose an address of this machine: ip address", "%s", err)
}

// held says who has the address.
func (a Address) held(ctx context.Context, addr *net.TCPAddr) Finding {
	who := "another program"
	if name := holder(addr.Port); name != "" {
		who = name
	}
	if answers(ctx, addr) {
		return Doubt("nothing, if it is to be replaced by this one: it must end first", "%s is held by %s, which is a posta", a.Listen, who)
	}
	return Fault("end it, or choose another address with --listen", "%s is held by %s", a.Listen, who)
}

// answers reports whether a posta is there. It answers a ping without a token.
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

// closed judges who may come in.
func (a Address) closed(addr *net.TCPAddr) Finding {
	var f Finding
	switch {
	case addr.IP.IsLoopback():
		f = Good("only this machine reaches %s", a.Listen)
	case a.Asks:
		f = Good("other machines reach %s, and must authenticate", a.Listen)
	default:
		f = Fault("--token-file FILE or --tls-client-ca FILE asks them; --insecure admits every client",
			"other machines can reach %s, and no client would have to authenticate: a node refuses to start like this", a.Listen)
	}
	return f.Of("listen access")
}

// named writes a process for people.
func named(pid int, name string) string { return fmt.Sprintf("process %d (%s)", pid, name) }
