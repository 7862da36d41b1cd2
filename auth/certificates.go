package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the files are read, at most: to do so at each handshake
// would cost more than it finds.
const lookEvery = time.Second

// maxPEMBytes bounds a certificate or key file; a long chain has a few KiB.
const maxPEMBytes = 1 << 20

// CertificateFiles says where a server's certificate is, in PEM.
type CertificateFiles struct {
	Certificate string // with its chain, the server's own first
	Key         string // of the certificate; only its owner may read it
	ClientCA    string // clients must have a certificate of one of these; "": they need none
}

// Certificates are a server's certificate, and the authorities of its clients, as
// their files have them now: a file that has changed is read again at the next
// handshake, so that a certificate can be renewed without a restart. Files that do
// not fit together (half of a renewal) leave the former ones in use. It is safe for
// concurrent use.
type Certificates struct {
	files  CertificateFiles
	failed func(error)

	mu     sync.Mutex // guards all below
	looked time.Time
	texts  texts
	config *tls.Config
}

// texts are what the files hold: certificate, key and authorities. A change is noticed by
// them, since a renewed file can have the size of the former one, and its time.
type texts [3]string

// LoadCertificates reads the files. failed is told, on the goroutine of a handshake, when
// they cannot be read again later on; nil: nobody is. Errors name the file, and never
// what is in it.
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

// Config gives the configuration for servers: TLS 1.2 at least. Each handshake has the
// certificate that the files have then.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current(time.Now()), nil
		},
	}
}

// Own gives the configuration for this process's own connections to the port: whoever has the
// certificate that the files have now is trusted, whatever name is in it. nil has none.
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
				return errors.New("TLS: the certificate there is another than ours")
			}
			return nil
		},
	}
}

// AsksClients tells whether clients need a certificate of their own.
func (c *Certificates) AsksClients() bool { return c != nil && c.files.ClientCA != "" }

// Identify says whose certificate a client has presented: the first URI in it, else its
// first DNS name, else its common name. ok is false when clients are not asked.
func (c *Certificates) Identify(state tls.ConnectionState) (id Identity, ok bool) {
	if !c.AsksClients() || len(state.VerifiedChains) == 0 {
		return Identity{}, false
	}
	leaf := state.VerifiedChains[0][0]
	name := leaf.Subject.CommonName
	switch {
	case len(leaf.URIs) > 0:
		name = leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		name = leaf.DNSNames[0]
	}
	return Identity{Name: name, Scopes: []string{"all"}}, true
}

// current gives what the files have now, or had when they last fitted together.
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
		c.failed(err) // and again at the next look, until it is mended
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

// parse makes of them what a server needs.
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

// readPEM reads one file; of a secret one it wants to know that nobody else can.
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
		return nil, fmt.Errorf("TLS: %s is no regular file", path)
	case info.Size() > maxPEMBytes:
		return nil, fmt.Errorf("TLS: %s has %d bytes, at most %d are read", path, info.Size(), maxPEMBytes)
	case secret && info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("TLS: everybody may read or change the key %s (mode %#o): run chmod o-rwx %s", path, info.Mode().Perm(), path)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(file); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return text.Bytes(), nil
}

// Known is a connection that knows who its client is without a token.
type Known interface {
	// Identity gives who that is; nil: nobody knows.
	Identity() *Identity
}

// Of gives who is at the other end of a connection; nil: it does not say.
func Of(conn net.Conn) *Identity {
	if known, ok := conn.(Known); ok {
		return known.Identity()
	}
	return nil
}
