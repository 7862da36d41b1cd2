package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

// lookEvery is the shortest time between two reads of the files. Reading them at each
// handshake would cost too much.
const lookEvery = time.Second

// maxPEMBytes limits a certificate or key file. A long chain has a few KiB.
const maxPEMBytes = 1 << 20

// CertificateFiles names the files of a server's certificate, in PEM.
type CertificateFiles struct {
	Certificate string // with its chain, the server's own first
	Key         string // of the certificate; others must not be able to read it
	ClientCA    string // authorities that must have signed a client's certificate; "": clients need none
}

// Certificates are a server's certificate and the authorities of its clients. A changed
// file is read again at the next handshake, so a certificate can be renewed without a
// restart. If the files do not fit together (half of a renewal), the former ones stay in
// use. It is safe for concurrent use.
type Certificates struct {
	files  CertificateFiles
	failed func(error)

	mu     sync.Mutex // guards the fields below
	looked time.Time
	texts  texts
	config *tls.Config
}

// texts are the contents of the files: certificate, key and authorities. They are compared
// to notice a change, since a renewed file can have the same size and time as before.
type texts [3]string

// LoadCertificates reads the files. If they cannot be read again later, it calls failed,
// unless that is nil, on the goroutine of a handshake. Errors name the file, and never
// contain its contents.
func LoadCertificates(files CertificateFiles, failed func(error)) (*Certificates, error) {
	if files.Certificate == "" || files.Key == "" {
		return nil, errors.New("TLS needs both a certificate and its key")
	}
	if failed == nil {
		failed = func(error) {}
	}
	c := &Certificates{files: files, failed: failed}
	var err error
	if c.texts, err = files.read(); err != nil {
		return nil, err
	}
	c.config, err = files.parse(c.texts)
	return c, err
}

// Config returns the configuration for servers, with at least TLS 1.2. Each handshake uses
// the current certificate.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current(time.Now()), nil
		},
	}
}

// Own returns the configuration for this process's own connections to its port. It trusts a
// server with the current certificate, whatever name that contains. It returns nil for a
// nil Certificates.
func (c *Certificates) Own() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // instead of names and authorities, the certificate itself is compared
		VerifyConnection: func(state tls.ConnectionState) error {
			own := c.current(time.Now()).Certificates[0].Certificate[0]
			if !bytes.Equal(state.PeerCertificates[0].Raw, own) {
				return errors.New("TLS: the server has another certificate than this process")
			}
			return nil
		},
	}
}

// AsksClients reports whether clients need a certificate.
func (c *Certificates) AsksClients() bool { return c != nil && c.files.ClientCA != "" }

// Identify returns the identity in a client's certificate: its first URI, else its first
// DNS name, else its common name. It may do everything. Identify returns nil if clients need no certificate.
func (c *Certificates) Identify(state tls.ConnectionState) *Identity {
	if !c.AsksClients() || len(state.VerifiedChains) == 0 {
		return nil
	}
	leaf := state.VerifiedChains[0][0]
	name := leaf.Subject.CommonName
	switch {
	case len(leaf.URIs) > 0:
		name = leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		name = leaf.DNSNames[0]
	}
	return NewIdentity(Identity{Name: name, Subject: certificateSubject(name)}, []Grant{everything()}, nil)
}

// certificateSubject returns the owner of the tasks of a client with a certificate. A name that cannot be an owner is
// replaced by its digest.
func certificateSubject(name string) string {
	subject := certificateOwner + name
	if len(subject) > task.MaxOwner || task.CheckName("owner", subject) != nil || task.CheckText("owner", subject) != nil {
		digest := sha256.Sum256([]byte(name))
		subject = certificateOwner + "sha256:" + hex.EncodeToString(digest[:])
	}
	return subject
}

// current returns the configuration of the files now, or of when they last fitted together.
func (c *Certificates) current(now time.Time) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < lookEvery {
		return c.config
	}
	c.looked = now
	texts, err := c.files.read()
	if err == nil && texts == c.texts {
		return c.config
	}
	var fresh *tls.Config
	if err == nil {
		fresh, err = c.files.parse(texts)
	}
	if err != nil {
		c.failed(err) // and again at the next read, until it is fixed
		return c.config
	}
	c.config, c.texts = fresh, texts
	return fresh
}

// read reads all files.
func (f CertificateFiles) read() (now texts, err error) {
	for i, path := range []string{f.Certificate, f.Key, f.ClientCA} {
		if path == "" {
			continue
		}
		text, err := readPEM(path, path == f.Key)
		if err != nil {
			return now, err
		}
		now[i] = string(text)
	}
	return now, nil
}

// parse returns the configuration of a server.
func (f CertificateFiles) parse(from texts) (*tls.Config, error) {
	pair, err := tls.X509KeyPair([]byte(from[0]), []byte(from[1]))
	if err != nil {
		return nil, fmt.Errorf("TLS: certificate %s with key %s: %w", f.Certificate, f.Key, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if f.ClientCA == "" {
		return config, nil
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM([]byte(from[2])) {
		return nil, fmt.Errorf("TLS: %s holds no certificate in PEM", f.ClientCA)
	}
	return config, nil
}

// readPEM reads one file. It refuses a secret file that everybody can read.
func readPEM(path string, secret bool) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("TLS: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("TLS: %s is not a regular file", path)
	case info.Size() > maxPEMBytes:
		return nil, fmt.Errorf("TLS: %s has %d bytes, at most %d are allowed", path, info.Size(), maxPEMBytes)
	case secret && info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("TLS: everybody can read or change the key %s (mode %#o): run chmod o-rwx %s", path, info.Mode().Perm(), path)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(file); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return text.Bytes(), nil
}

// Known is a connection that has authenticated its client without a token.
type Known interface {
	// Identity returns the client's identity, or nil if it is unknown.
	Identity() *Identity
}

// Of returns the identity of the client of a connection, or nil if it is unknown.
func Of(conn net.Conn) *Identity {
	if known, ok := conn.(Known); ok {
		return known.Identity()
	}
	return nil
}
