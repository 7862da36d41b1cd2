package option

import (
	"regexp"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/cmd/posta/terminal"
)

// password finds the password in a URL, also where it should have been percent-encoded.
var password = regexp.MustCompile(`(://[^:/@]*:).+@`)

// Redacted gives a URL without its password, for logs and errors.
func Redacted(url string) string {
	return password.ReplaceAllString(url, "${1}…@")
}

// warnOfSecrets tells that a command line can be read by every user of the machine.
func warnOfSecrets(out *terminal.Outside, flag *pflag.Flag) {
	if flag.Changed && Redacted(flag.Value.String()) != flag.Value.String() {
		out.Talk("posta: warning: --%s has a password in it, and every user of this machine can read it there", flag.Name)
		out.Talk("posta: hint: put it into the environment variable %s instead", twinOf(flag.Name))
	}
}
