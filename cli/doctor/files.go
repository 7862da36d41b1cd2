package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/posta-tasks/posta/auth"
)

// soon is how long before its end a certificate should have been renewed.
const soon = 30 * 24 * time.Hour

// Tokens looks at a file of tokens.
func Tokens(path string) Check {
	return One("tokens", func(context.Context) Finding {
		tokens, err := auth.LoadTokens(path)
		if err != nil {
			return Fault("a NAME and a TOKEN on each line; chmod 600", "%s", err)
		}
		return Good("%s has %d, for its owner and its group alone", path, tokens.Len())
	})
}

// Certificates looks at a server's, or a client's, certificate, its key, and the authorities of clients, of
// which each may be missing. now is the clock.
func Certificates(files auth.CertificateFiles, now func() time.Time) []Check {
	var checks []Check
	if files.Certificate != "" || files.Key != "" {
		checks = append(checks, Check{Part: "certificate", Look: func(context.Context) []Finding {
			return pair(files, now())
		}})
	}
	if files.ClientCA != "" {
		checks = append(checks, One("client CA", func(context.Context) Finding { return authorities(files.ClientCA, now()) }))
	}
	return checks
}

// pair looks at a certificate with its key.
func pair(files auth.CertificateFiles, now time.Time) []Finding {
	if files.Certificate == "" || files.Key == "" {
		return []Finding{Fault("give both --tls-cert and --tls-key", "a certificate and its key belong together, and one is missing")}
	}
	found := []Finding{secret(files.Key)}
	chain, err := readCertificates(files.Certificate)
	if err != nil {
		return append(found, Fault("--tls-cert names a file in PEM: the certificate, and behind it those between it and its authority", "%s", err))
	}
	found = append(found, dated(files.Certificate, chain, now), certificateNames(chain[0]))
	if _, err := tls.LoadX509KeyPair(files.Certificate, files.Key); err != nil {
		return append(found, Fault("give the key for which the certificate was issued", "%s and %s: %s", files.Certificate, files.Key, err).Of("certificate key"))
	}
	return append(found, Good("the certificate and its key belong together").Of("certificate key"))
}

// secret looks at who may read a key.
func secret(path string) Finding {
	info, err := os.Stat(path)
	var f Finding
	switch {
	case err != nil:
		f = Fault("--tls-key names a file that this user may read", "%s", err)
	case info.Mode().Perm()&0o007 != 0:
		f = Fault("chmod o-rwx "+path+"; a node refuses it so", "everybody may read or change the key %s (mode %#o)", path, info.Mode().Perm())
	case info.Mode().Perm()&0o020 != 0:
		f = Doubt("chmod g-w "+path, "its group may change the key %s (mode %#o)", path, info.Mode().Perm())
	default:
		f = Good("%s is for its owner and its group (mode %#o)", path, info.Mode().Perm())
	}
	return f.Of("certificate key file")
}

// readCertificates returns the certificates in a file; there is one at least.
func readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return list, nil
}

// dated judges when the first of some certificates to end does so.
func dated(path string, list []*x509.Certificate, now time.Time) Finding {
	first := list[0]
	for _, c := range list {
		if now.Before(c.NotBefore) {
			return Fault("is this machine's clock right?", "%s: %s is valid from %s on", path, called(c), day(c.NotBefore))
		}
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	left := first.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return Fault("renew it; a running node reads the new one within a second", "%s: %s has expired on %s", path, called(first), day(first.NotAfter))
	case left <= soon:
		return Doubt("renew it; a running node reads the new one within a second", "%s: %s expires on %s, in %s", path, called(first), day(first.NotAfter), span(left))
	}
	return Good("%s is valid until %s", path, day(first.NotAfter))
}

func called(c *x509.Certificate) string { return fmt.Sprintf("%q", c.Subject.CommonName) }
func day(t time.Time) string            { return t.UTC().Format(time.DateOnly) }

// span writes a time that is left.
func span(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Hour).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// certificateNames tells under which names a server may be called.
func certificateNames(c *x509.Certificate) Finding {
	list := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	for _, uri := range c.URIs {
		list = append(list, uri.String())
	}
	if len(list) == 0 {
		return Doubt("issue it with subject alternative names: clients look at nothing else",
			"there is no name in it but %s, which clients do not read", called(c)).Of("certificate names")
	}
	return Good("it is for %s", strings.Join(list, ", ")).Of("certificate names")
}

// authorities looks at those whose clients may come in.
func authorities(path string, now time.Time) Finding {
	list, err := readCertificates(path)
	if err != nil {
		return Fault("--tls-client-ca names a file in PEM", "%s", err)
	}
	for _, c := range list {
		if !c.IsCA {
			return Fault("name the authority that has issued the clients' certificates", "%s: %s is no authority", path, called(c))
		}
	}
	return dated(path, list, now)
}
