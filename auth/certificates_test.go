package auth_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/internal/testenv"
)

// certificates loads files that must be in order.
func certificates(t *testing.T, files auth.CertificateFiles, failed func(error)) *auth.Certificates {
	t.Helper()
	c, err := auth.LoadCertificates(files, failed)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake has a client meet a server that has the certificates.
func handshake(t *testing.T, c *auth.Certificates, client *tls.Config) (server, peer tls.ConnectionState, err error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", c.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			_, err = conn.Write([]byte("!"))
			server = conn.(*tls.Conn).ConnectionState()
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	calling := tls.Client(conn, client)
	_, err = io.ReadFull(calling, make([]byte, 1))
	return server, calling.ConnectionState(), errors.Join(err, <-served)
}

func TestACertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	files := ca.Issue(t, "node", "localhost")
	var complaints atomic.Int64
	c := certificates(t, auth.CertificateFiles{Certificate: files.Certificate, Key: files.Key},
		func(error) { complaints.Add(1) })
	client := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"}
	serial := func() string {
		t.Helper()
		_, peer, err := handshake(t, c, client)
		if err != nil {
			t.Fatal(err)
		}
		return peer.PeerCertificates[0].SerialNumber.String()
	}
	first, old := serial(), read(t, files.Key)
	ca.Issue(t, "node", "localhost") // writes the same two files
	fresh := read(t, files.Key)
	touch(t, files.Key, old) // half of a renewal
	until(t, "the files that do not fit are noticed", func() bool {
		if got := serial(); got != first {
			t.Fatalf("with a key of another certificate: serial %s, want %s still", got, first)
		}
		return complaints.Load() > 0
	})
	touch(t, files.Key, fresh)
	until(t, "the renewed certificate is in use", func() bool { return serial() != first })
}

func TestARenewedCertificateIsNoticedByWhatIsInIt(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	files := ca.Issue(t, "node", "localhost")
	c := certificates(t, auth.CertificateFiles{Certificate: files.Certificate, Key: files.Key}, nil)
	client := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"}
	serial := func() string {
		t.Helper()
		_, peer, err := handshake(t, c, client)
		if err != nil {
			t.Fatal(err)
		}
		return peer.PeerCertificates[0].SerialNumber.String()
	}
	first, before := serial(), len(read(t, files.Certificate))
	info, err := os.Stat(files.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 { // signatures differ in length, by a byte or two
		ca.Issue(t, "node", "localhost")
		if len(read(t, files.Certificate)) == before {
			break
		}
	}
	for _, path := range []string{files.Certificate, files.Key} {
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a renewed certificate of the same size and time is in use", func() bool { return serial() != first })
}

// until asks until the answer is yes, which it must be in the end.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !yes(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// touch writes a file so that its time has changed for certain.
func touch(t *testing.T, path string, text []byte) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err == nil {
		later := info.ModTime().Add(time.Minute)
		err = os.Chtimes(path, later, later)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAClientIsKnownByItsCertificate(t *testing.T) {
	t.Parallel()
	ca, otherCA := testenv.NewAuthority(t), testenv.NewAuthority(t)
	files := ca.Issue(t, "node", "localhost")
	c := certificates(t, auth.CertificateFiles{Certificate: files.Certificate, Key: files.Key, ClientCA: ca.File}, nil)
	tests := map[string]struct {
		authority *testenv.Authority
		names     []string
		want      string // "": refused
	}{
		"uri":                           {ca, []string{"web.example", "spiffe://example/web"}, "spiffe://example/web"},
		"dns":                           {ca, []string{"web.example"}, "web.example"},
		"name":                          {ca, nil, "name"},
		"a client of another authority": {otherCA, []string{"web.example"}, ""},
		"nobody":                        {nil, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"}
			if test.authority != nil {
				own := test.authority.Issue(t, name, test.names...)
				pair, err := tls.LoadX509KeyPair(own.Certificate, own.Key)
				if err != nil {
					t.Fatal(err)
				}
				client.Certificates = []tls.Certificate{pair}
			}
			state, _, err := handshake(t, c, client)
			id := c.Identify(state)
			if (err == nil) != (test.want != "") || (id != nil) != (test.want != "") || id != nil && id.Name != test.want {
				t.Errorf("%v, identity %+v, want %q", err, id, test.want)
			}
		})
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	files := ca.Issue(t, "node", "localhost")
	c := certificates(t, auth.CertificateFiles{Certificate: files.Certificate, Key: files.Key}, nil)
	client := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if _, _, err := handshake(t, c, client); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
	if c.AsksClients() {
		t.Error("clients are asked for a certificate without an authority for them")
	}
}

func TestFilesThatAreNoCertificateAreRefusedByName(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	files, other := ca.Issue(t, "node", "localhost"), ca.Issue(t, "other", "localhost")
	open := ca.Issue(t, "open", "localhost")
	if err := os.Chmod(open.Key, 0o604); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		files auth.CertificateFiles
		want  string
	}{
		"no key":            {auth.CertificateFiles{Certificate: files.Certificate}, "both"},
		"a missing file":    {auth.CertificateFiles{Certificate: "missing.pem", Key: files.Key}, "missing.pem"},
		"a folder":          {auth.CertificateFiles{Certificate: t.TempDir(), Key: files.Key}, "not a regular file"},
		"another key":       {auth.CertificateFiles{Certificate: files.Certificate, Key: other.Key}, other.Key},
		"a key for all":     {auth.CertificateFiles{Certificate: open.Certificate, Key: open.Key}, "chmod o-rwx " + open.Key},
		"no authority":      {auth.CertificateFiles{Certificate: files.Certificate, Key: files.Key, ClientCA: files.Key}, "holds no certificate"},
		"key, then its pem": {auth.CertificateFiles{Certificate: files.Key, Key: files.Certificate}, files.Key},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := auth.LoadCertificates(test.files, nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}
