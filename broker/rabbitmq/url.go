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

// endpoint says where servers are, and who comes. It is never written anywhere.
type endpoint struct {
	hosts          []string // HOST:PORT
	user, password string
	vhost          string
	tls            *tls.Config // nil: plain text
}

// String says where the servers are, and nothing that is secret.
func (w endpoint) String() string { return strings.Join(w.hosts, ",") + "/" + url.PathEscape(w.vhost) }

// GoString is String.
func (w endpoint) GoString() string { return w.String() }

// parseURL reads amqp://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]…]/VHOST, or amqps:// for TLS, which
// verifies the server: ?ca=FILE says whose certificates it may have; ?cert=FILE&key=FILE is what a
// server is shown that asks for a certificate. With ?password-file=FILE the password is not in
// the URL. Errors do not tell it.
func parseURL(text string) (endpoint, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || (scheme != "amqp" && scheme != "amqps") {
		return endpoint{}, errors.New("rabbitmq: want amqp://USER@HOST:PORT/VHOST, or amqps:// for TLS")
	}
	authority, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	// A URL has one host; the others are taken out before it is read.
	u, err := url.Parse(scheme + "://" + authority[:at+1] + "host/" + path)
	if err != nil {
		return endpoint{}, errors.New("rabbitmq: the URL cannot be read (its password must be percent-encoded)")
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

// withPort adds the usual port to a host that has none.
func withPort(host, usual string) (string, error) {
	if name, port, err := net.SplitHostPort(host); err == nil && name != "" && port != "" {
		return host, nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if name == "" || strings.ContainsAny(name, "[]?#@") || strings.Count(name, ":") == 1 {
		return "", fmt.Errorf("rabbitmq: %.100q is no HOST or HOST:PORT", host)
	}
	return net.JoinHostPort(name, usual), nil
}

// parameters reads what stands behind the question mark. All of it names files.
func (w *endpoint) parameters(query url.Values) error {
	files := map[string][]byte{}
	for name, values := range query {
		if !slices.Contains([]string{"ca", "cert", "key", "password-file"}, name) {
			return fmt.Errorf("rabbitmq: there is no parameter %.40q; allowed are ca, cert, key and password-file", name)
		}
		text, err := os.ReadFile(values[len(values)-1])
		switch {
		case err != nil:
			return fmt.Errorf("rabbitmq: %s: %w", name, err)
		case name == "password-file":
			w.password = strings.TrimRight(string(text), "\r\n")
		case w.tls == nil:
			return fmt.Errorf("rabbitmq: %s is for amqps://", name)
		}
		files[name] = text
	}
	return w.certificates(files)
}

// certificates reads whom to trust, and what to show.
func (w *endpoint) certificates(files map[string][]byte) error {
	if text, given := files["ca"]; given {
		w.tls.RootCAs = x509.NewCertPool()
		if !w.tls.RootCAs.AppendCertsFromPEM(text) {
			return errors.New("rabbitmq: ca: the file holds no certificate in PEM")
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

// Exposed tells whether what is said, the password too, can be heard on the way: it is plain text
// and leaves this machine.
func (w endpoint) exposed() bool {
	return w.tls == nil && slices.ContainsFunc(w.hosts, func(addr string) bool {
		host, _, _ := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		return host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}

// shuffled gives the servers in an order of chance, so that nodes spread over them.
func (w endpoint) shuffled() []string {
	hosts := slices.Clone(w.hosts)
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	return hosts
}
