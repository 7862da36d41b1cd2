package rabbitmq

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// endpoint holds the addresses of the servers and the credentials. String returns it without secrets.
type endpoint struct {
	hosts          []string // HOST:PORT
	user, password string
	vhost          string
	tls            *tls.Config // nil: plain text
}

// String returns the addresses and the virtual host, without user and password.
func (w endpoint) String() string { return strings.Join(w.hosts, ",") + "/" + url.PathEscape(w.vhost) }

// GoString returns the same as String.
func (w endpoint) GoString() string { return w.String() }

// parseURL parses amqp://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]…]/VHOST, or amqps:// for TLS, which
// verifies the server. ?ca=FILE names the authorities to trust. ?cert=FILE&key=FILE is the client
// certificate. ?password-file=FILE keeps the password out of the URL. Errors do not contain the
// password.
func parseURL(text string) (endpoint, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || (scheme != "amqp" && scheme != "amqps") {
		return endpoint{}, errors.New("rabbitmq: want amqp://USER@HOST:PORT/VHOST, or amqps:// for TLS")
	}
	authority, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	// net/url allows only one host, so a placeholder replaces the list of hosts.
	u, err := url.Parse(scheme + "://" + authority[:at+1] + "host/" + path)
	if err != nil {
		return endpoint{}, errors.New("rabbitmq: the URL cannot be read (special characters in the password must be percent-encoded)")
	}
	w := endpoint{user: "guest", password: "guest", vhost: strings.TrimPrefix(u.Path, "/")}
	if w.vhost == "" {
		w.vhost = "/"
	}
	if u.User != nil {
		w.user = u.User.Username()
		w.password, _ = u.User.Password()
	}
	port := "5672"
	if scheme == "amqps" {
		port = "5671"
		w.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	for host := range strings.SplitSeq(authority[at+1:], ",") {
		addr, err := withPort(host, port)
		if err != nil {
			return endpoint{}, err
		}
		w.hosts = append(w.hosts, addr)
	}
	return w, w.parameters(u.Query())
}

// withPort adds the default port to a host without one.
func withPort(host, defaultPort string) (string, error) {
	if name, port, err := net.SplitHostPort(host); err == nil && name != "" && port != "" {
		return host, nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if name == "" || strings.ContainsAny(name, "[]?#@") || strings.Count(name, ":") == 1 {
		return "", fmt.Errorf("rabbitmq: %.100q is not HOST or HOST:PORT", host)
	}
	return net.JoinHostPort(name, defaultPort), nil
}

// parameters reads the query parameters. Each names a file.
func (w *endpoint) parameters(query url.Values) error {
	files := map[string][]byte{}
	for name, values := range query {
		if !slices.Contains([]string{"ca", "cert", "key", "password-file"}, name) {
			return fmt.Errorf("rabbitmq: unknown parameter %.40q; allowed are ca, cert, key and password-file", name)
		}
		text, err := os.ReadFile(values[len(values)-1])
		switch {
		case err != nil:
			return fmt.Errorf("rabbitmq: %s: %w", name, err)
		case name == "password-file":
			w.password = strings.TrimRight(string(text), "\r\n")
		case w.tls == nil:
			return fmt.Errorf("rabbitmq: %s needs amqps://", name)
		}
		files[name] = text
	}
	return w.certificates(files)
}

// certificates sets the authorities to trust and the certificate to present.
func (w *endpoint) certificates(files map[string][]byte) error {
	if text, given := files["ca"]; given {
		w.tls.RootCAs = x509.NewCertPool()
		if !w.tls.RootCAs.AppendCertsFromPEM(text) {
			return errors.New("rabbitmq: ca: the file has no PEM certificate")
		}
	}
	if (files["cert"] == nil) != (files["key"] == nil) {
		return errors.New("rabbitmq: cert and key belong together, and one is missing")
	}
	if files["cert"] == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(files["cert"], files["key"])
	if err != nil {
		return fmt.Errorf("rabbitmq: cert and key: %w", err)
	}
	w.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// exposed reports whether others on the network can read the connection, including the password: it is
// plain text, and one of its servers is not on loopback.
func (w endpoint) exposed() bool {
	return w.tls == nil && slices.ContainsFunc(w.hosts, func(addr string) bool {
		host, _, _ := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		return host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}

// shuffled returns the servers in random order, so that nodes spreadOver over them.
func (w endpoint) shuffled() []string {
	hosts := slices.Clone(w.hosts)
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	return hosts
}
