package node

import (
	"fmt"
	"net"
	"slices"
)

// resolveListen finds the address to listen on, so that it can be judged before
// the port is open. listen is HOST:PORT; an empty host means every address of the
// machine.
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

// checkTrust refuses an address that other machines can reach as long as nobody is
// asked who he is: whoever finds the port could run tasks. closed says that somebody is
// asked, or that the operator means it. The error names the flags that would help.
func checkTrust(addr net.Addr, closed bool) error {
	if closed {
		return nil
	}
	port := "PORT"
	switch addr := addr.(type) {
	case *net.UnixAddr:
		return nil // the file's mode says who may come in
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

// allowedHosts lists the names under which HTTP clients may call this node: the
// one that it was told to listen on, and those that it was told of. httpapi adds the
// loopback names and the address that a connection came to.
func allowedHosts(listen string, told []string) []string {
	hosts := slices.Clone(told)
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	return hosts
}
