package option

import (
	"strings"

	"github.com/posta-tasks/posta/cmd/posta/exit"
)

// CheckAddresses refuses URLs where a flag wants HOST:PORT.
func CheckAddresses(flag string, addrs ...string) error {
	for _, addr := range addrs {
		if strings.ContainsAny(addr, "/@") {
			return exit.Misuse("write it as HOST:PORT, for example 127.0.0.1:9000", "--%s is %q, which is no address", flag, Redacted(addr))
		}
	}
	return nil
}

// CheckPath refuses a URL where a directory is wanted, since it would be made under that name. what is how
// messages call it.
func CheckPath(what, path string) error {
	if strings.Contains(path, "://") || Redacted(path) != path {
		return exit.Misuse("name a directory of this machine, such as ./backup", "%s is %q, which is a URL and no directory", what, Redacted(path))
	}
	return nil
}
