package balancer

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// maxHost is the length of the longest DNS name, in bytes.
const maxHost = 253

// hostName matches a DNS name. The standard for host names has no underscores,
// but container tools use them.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

// dialAddress checks that address is host:port and nothing else, and normalizes it.
// Addresses are written into configuration files, where a space, a quote or a newline would
// begin another directive.
func dialAddress(address string) (string, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return "", err
	}
	if host == "" {
		return "", fmt.Errorf("address %q has no host: give host:port, such as 127.0.0.1:9001", address)
	}
	if port == 0 {
		return "", fmt.Errorf("address %q: port must be 1 to 65535", address)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// listenAddress checks and normalizes an address to listen on. An empty host means all
// addresses of the machine and is written as *.
func listenAddress(address string) (string, error) {
	host, port, err := splitAddress(strings.TrimPrefix(address, "*"))
	if err != nil {
		return "", err
	}
	if port == 0 {
		return "", fmt.Errorf("address %q: port must be 1 to 65535", address)
	}
	if host == "" {
		return "*:" + strconv.Itoa(port), nil
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// splitAddress splits address into a host, which is an IP address, a DNS name or empty, and
// a port from 0 to 65535.
func splitAddress(address string) (host string, port int, err error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("address %q is not host:port", address)
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: port %q is not a number from 1 to 65535", address, portText)
	}
	if host == "" {
		return "", int(number), nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return "", 0, fmt.Errorf("address %q: an IPv6 zone cannot be written into a balancer's configuration", address)
		}
		return ip.String(), int(number), nil
	}
	if len(host) > maxHost || !hostName.MatchString(host) || lastLabelIsNumber(host) {
		return "", 0, fmt.Errorf("address %q: %q is neither an IP address nor a host name", address, host)
	}
	return strings.ToLower(host), int(number), nil
}

// lastLabelIsNumber reports whether host is a mistyped IPv4 address (10.0.0.300) rather
// than a name.
func lastLabelIsNumber(host string) bool {
	_, err := strconv.ParseUint(host[strings.LastIndexByte(host, '.')+1:], 10, 64)
	return err == nil
}

// nodeAddresses normalizes the addresses of the nodes. It refuses an empty list, duplicates,
// and the address on which the balancer itself listens.
func nodeAddresses(listen string, nodes []string) ([]string, error) {
	if len(nodes) == 0 {
		return nil, fmt.Errorf("no nodes: a balancer needs at least one node's host:port")
	}
	seen := make(map[string]bool, len(nodes))
	list := make([]string, 0, len(nodes))
	for _, node := range nodes {
		address, err := dialAddress(node)
		if err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
		if isSame(listen, address) {
			return nil, fmt.Errorf("node %q is the balancer's own address: connections would come back to it for ever", node)
		}
		if seen[address] {
			return nil, fmt.Errorf("node %q is given twice", node)
		}
		seen[address] = true
		list = append(list, address)
	}
	return list, nil
}

// isSame reports whether the balancer listens on the address node. If it listens on all
// addresses of the machine, that includes loopback.
func isSame(listen, node string) bool {
	if listen == node {
		return true
	}
	host, port, err := splitAddress(strings.TrimPrefix(listen, "*"))
	nodeHost, nodePort, nodeErr := splitAddress(node)
	if err != nil || nodeErr != nil || port != nodePort {
		return false
	}
	everywhere := host == "" || net.ParseIP(host).IsUnspecified()
	return everywhere && (nodeHost == "localhost" || net.ParseIP(nodeHost).IsLoopback())
}
