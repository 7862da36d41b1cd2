package cli

import (
	"strings"
)

// checkAddresses refuses a URL in a flag for HOST:PORT.
func checkAddresses(flag string, addrs ...string) error {
	for _, addr := range addrs {
		if strings.ContainsAny(addr, "/@") {
			return misuse("write it as HOST:PORT, for example 127.0.0.1:9000", "--%s is %q, which is not an address", flag, redacted(addr))
		}
	}
	return nil
}

// checkPath refuses a URL in a flag for a directory, since a directory with that name would be created. what is the
// name of the flag in messages.
func checkPath(what, path string) error {
	if strings.Contains(path, "://") || redacted(path) != path {
		return misuse("name a directory of this machine", "%s is %q, which is a URL and no directory", what, redacted(path))
	}
	return nil
}
