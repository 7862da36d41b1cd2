package cli

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/cli/terminal"
)

// Patterns for secrets in texts that are meant as URLs, even mistyped ones.
var (
	// userinfo matches the text between the first colon after the user name and the last @, with or without a
	// scheme: postgres://u:PW@h, postgres:u:PW@h, amqp//u:PW@h, u:PW@h. The password may contain characters that
	// should have been percent-encoded.
	userinfo = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*:/{0,2}|[A-Za-z][A-Za-z0-9+.-]*/{1,2}|/{0,2})([^:@]*):(.+)@`)
	// parameter matches a password in a parameter of a URL, or in a list of words in the format of libpq.
	parameter = regexp.MustCompile(`(?i)((?:^|[?&;\s])[a-z_-]*(?:password|passwd|pwd|secret|token|secret[_-]?key|access[_-]?key)\s*=\s*)('[^']*'?|[^&;\s]*)`)
)

// redacted returns a URL without its password, for logs and errors.
func redacted(url string) string {
	if at := userinfo.FindStringSubmatchIndex(url); at != nil {
		// In postgres://u@h the scheme looks like a user name, and there is no password.
		if before, password := url[:at[6]], url[at[6]:at[7]]; at[2] != at[3] || !strings.HasPrefix(password, "//") {
			url = before + "…" + url[at[7]:]
		}
	}
	return parameter.ReplaceAllStringFunc(url, func(found string) string {
		parts := parameter.FindStringSubmatch(found)
		if parts[2] == "" || strings.Contains(strings.ToLower(parts[1]), "-file") {
			return found
		}
		return parts[1] + "…"
	})
}

// withoutSecrets removes from a text the passwords in the command line and in the environment, however the text
// quotes them.
func withoutSecrets(text string, words []string) string {
	for _, word := range words {
		if strings.HasPrefix(word, "-") {
			_, word, _ = strings.Cut(word, "=")
		}
		if word == "" || strings.ContainsAny(word[:1], "{[\"@") {
			continue // a payload
		}
		for _, value := range append([]string{word}, strings.Split(word, ",")...) {
			if redacted := redacted(value); redacted != value {
				text = strings.ReplaceAll(text, value, redacted)
				for _, secret := range secretsIn(value) {
					text = strings.ReplaceAll(text, secret, "…")
				}
			}
		}
	}
	return text
}

// secretsIn returns the passwords in a URL that are long enough not to be ordinary words.
func secretsIn(url string) []string {
	var found []string
	if parts := userinfo.FindStringSubmatch(url); parts != nil {
		found = append(found, parts[3])
	}
	for _, parts := range parameter.FindAllStringSubmatch(url, -1) {
		found = append(found, parts[2])
	}
	return slices.DeleteFunc(found, func(secret string) bool { return len(secret) < 4 })
}

// warnOfSecrets warns that every user of the machine can read a command line.
func warnOfSecrets(out *terminal.Outside, flag *pflag.Flag) {
	if !flag.Changed || redacted(flag.Value.String()) == flag.Value.String() {
		return
	}
	out.Talk("posta: warning: --%s has a password in it, and every user of this machine can read it there", flag.Name)
	if slices.Contains([]string{"store", "blobs", "broker"}, flag.Name) {
		out.Talk("posta: hint: put it into the environment variable %s instead", variableOf(flag.Name))
	} else {
		out.Talk("posta: hint: --%s takes no password", flag.Name)
	}
}
