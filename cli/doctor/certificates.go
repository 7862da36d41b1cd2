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

// soon is how long before its end a certificate should be renewed.
const soon = 30 * 24 * time.Hour

// tokens checks a file of tokens.
func tokens(_ context.Context, path string) []Finding {
	tokens, err := auth.LoadTokens(path)
	if err != nil {
		return []Finding{fault("a NAME and a TOKEN on each line; chmod 600", "%s", err)}
	}
	return []Finding{good("%s has %d, for its owner and its group alone", path, tokens.Len())}
}

// certificate checks a certificate and its key, one of which may be missing.
func (s Subject) certificate(context.Context, string) []Finding {
	files := s.Certificates
	if files.Certificate == "" || files.Key == "" {
		return []Finding{fault("give both --tls-cert and --tls-key", "a certificate and its key belong together, and one is missing")}
	}
	found := []Finding{judgeKeyFile(files.Key)}
	chain, err := readCertificates(files.Certificate)
	if err != nil {
		return append(found, fault("--tls-cert names a file in PEM: the certificate, and behind it those between it and its authority", "%s", err))
	}
	found = append(found, judgeDates(files.Certificate, chain, s.Now()), judgeNames(chain[0]))
	if _, err := tls.LoadX509KeyPair(files.Certificate, files.Key); err != nil {
		return append(found, fault("give the key for which the certificate was issued", "%s and %s: %s", files.Certificate, files.Key, err).of("certificate key"))
	}
	return append(found, good("the certificate and its key belong together").of("certificate key"))
}

// judgeKeyFile judges who may read a key.
func judgeKeyFile(path string) Finding {
	info, err := os.Stat(path)
	var f Finding
	switch {
	case err != nil:
		f = fault("--tls-key names a file that this user may read", "%s", err)
	case info.Mode().Perm()&0o007 != 0:
		f = fault("chmod o-rwx "+path+"; a node refuses it so", "everybody may read or change the key %s (mode %#o)", path, info.Mode().Perm())
	case info.Mode().Perm()&0o020 != 0:
		f = doubt("chmod g-w "+path, "its group may change the key %s (mode %#o)", path, info.Mode().Perm())
	default:
		f = good("%s is for its owner and its group (mode %#o)", path, info.Mode().Perm())
	}
	return f.of("certificate key file")
}

// readCertificates returns the certificates in a file. It fails if there is none.
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

// judgeDates judges whether all certificates of a file are valid now, and which of them expires first.
func judgeDates(path string, list []*x509.Certificate, now time.Time) Finding {
	first := list[0]
	for _, c := range list {
		if now.Before(c.NotBefore) {
			return fault("is this machine's clock right?", "%s: %s is valid from %s on", path, called(c), day(c.NotBefore))
		}
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	left := first.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return fault("renew it; a running node reads the new one within a second", "%s: %s has expired on %s", path, called(first), day(first.NotAfter))
	case left <= soon:
		return doubt("renew it; a running node reads the new one within a second", "%s: %s expires on %s, in %s", path, called(first), day(first.NotAfter), span(left))
	}
	return good("%s is valid until %s", path, day(first.NotAfter))
}

func called(c *x509.Certificate) string { return fmt.Sprintf("%q", c.Subject.CommonName) }
func day(t time.Time) string            { return t.UTC().Format(time.DateOnly) }

// span writes how long something is still valid.
func span(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Hour).String()
	}
	return amount(int(d.Hours()/24), "day")
}

// judgeNames judges the names for which a certificate is valid.
func judgeNames(c *x509.Certificate) Finding {
	list := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	for _, uri := range c.URIs {
		list = append(list, uri.String())
	}
	if len(list) == 0 {
		return doubt("issue it with subject alternative names: clients look at nothing else",
			"there is no name in it but %s, which clients do not read", called(c)).of("certificate names")
	}
	return good("it is for %s", strings.Join(list, ", ")).of("certificate names")
}

// authorities checks the file of the authorities that issue certificates for clients.
func (s Subject) authorities(_ context.Context, path string) []Finding {
	list, err := readCertificates(path)
	if err != nil {
		return []Finding{fault("--tls-client-ca names a file in PEM", "%s", err)}
	}
	for _, c := range list {
		if !c.IsCA {
			return []Finding{fault("name the authority that has issued the clients' certificates", "%s: %s is no authority", path, called(c))}
		}
	}
	return []Finding{judgeDates(path, list, s.Now())}
}
