package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Authority issues certificates for one test. Its files are removed with the test.
type Authority struct {
	File string // the authority's own certificate, in PEM
	Pool *x509.CertPool

	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	issued      int64
}

// Issued is a certificate and its key as files in PEM.
type Issued struct{ Certificate, Key string }

// NewAuthority returns a new authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{folder: t.TempDir(), issued: 1}
	template := a.template("test authority")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.File = filepath.Join(a.folder, "ca.pem")
	writePEM(t, a.File, "CERTIFICATE", der)
	a.Pool = x509.NewCertPool()
	a.Pool.AddCert(a.certificate)
	return a
}

// Issue writes NAME.pem and NAME.key. The certificate is for servers and clients, and valid for an hour. Each of
// names is an address, a URI (with ://) or a DNS name.
func (a *Authority) Issue(t testing.TB, name string, names ...string) Issued {
	t.Helper()
	template := a.template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, n := range names {
		addName(t, template, n)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	to := Issued{filepath.Join(a.folder, name+".pem"), filepath.Join(a.folder, name+".key")}
	writePEM(t, to.Certificate, "CERTIFICATE", der)
	writePEM(t, to.Key, "PRIVATE KEY", secret)
	return to
}

// template returns the fields that all certificates share.
func (a *Authority) template(name string) *x509.Certificate {
	a.issued++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.issued), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func addName(t testing.TB, template *x509.Certificate, name string) {
	t.Helper()
	switch ip := net.ParseIP(name); {
	case ip != nil:
		template.IPAddresses = append(template.IPAddresses, ip)
	case strings.Contains(name, "://"):
		uri, err := url.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	default:
		template.DNSNames = append(template.DNSNames, name)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
