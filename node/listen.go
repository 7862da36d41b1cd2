package node

import (
	"fmt"
	"net"
	"slices"
)

// resolveListen resolves the address to listen on, so that it can be checked before the port
// is open. listen is HOST:PORT; an empty host means every address of the machine.
func resolveListen(listen string) (*net.TCPAddr, error) {
	_, _, err := net.SplitHostPort(listen)
	var addr *net.TCPAddr
	if err == nil {
		addr, err = net.ResolveTCPAddr("tcp", listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w: want HOST:PORT, such as 127.0.0.1:9001", listen, err)
	}
	return addr, nil
}

// checkTrust refuses an address that other machines can reach without authentication, since
// everyone who finds the port could run tasks. closed means that clients are authenticated or
// that the operator allows it. The error names the flags that help.
func checkTrust(addr net.Addr, closed bool) error {
	if closed {
		return nil
	}
	port := "PORT"
	switch addr := addr.(type) {
	case *net.UnixAddr:
		return nil // the mode of the file decides who may connect
	case *net.TCPAddr:
		if addr.IP.IsLoopback() {
			return nil
		}
		port = fmt.Sprint(addr.Port)
	}
	return fmt.Errorf("%s can be reached from other machines, and nobody would be asked for a token: "+
		"add --token-file FILE to ask for one, or --tls-client-ca FILE to ask for certificates, or --listen 127.0.0.1:%s to serve this machine only, "+
		"or --insecure to let everybody in", addr, port)
}

// allowedHosts returns the names under which HTTP clients may call this node: the host of
// listen and the configured names. httpapi adds the loopback names and the local address of
// the connection.
func allowedHosts(listen string, configured []string) []string {
	hosts := slices.Clone(configured)
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	return hosts
}
