package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/internal/testenv"
)

// of examines a subject and returns the finding about a part.
func of(t *testing.T, part string, s Subject) Finding {
	t.Helper()
	found, err := Examine(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return findingOf(t, part, found)
}

// findingOf returns the finding about a part, and fails without one.
func findingOf(t *testing.T, part string, found []Finding) Finding {
	t.Helper()
	for _, f := range found {
		if f.Part == part {
			if f.Verdict != OK && f.Fix == "" {
				t.Errorf("nothing says how to fix %+v", f)
			}
			return f
		}
	}
	t.Fatalf("nothing is said of %s: %+v", part, found)
	return Finding{}
}

func TestAnAddressIsFreeOrSomebodyHasIt(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var rude sync.WaitGroup // somebody who hangs up
	defer rude.Wait()
	defer listener.Close()
	rude.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	})
	held := listener.Addr().String()
	f := of(t, "listen", Subject{Listen: held})
	if f.Verdict != Wrong || !strings.Contains(f.Saw, held+" is held by ") {
		t.Errorf("one that is held: %+v", f)
	}
	if us := fmt.Sprintf("process %d (", os.Getpid()); runtime.GOOS == "linux" && !strings.Contains(f.Saw, us) {
		t.Errorf("it is held by us, and not said to be: %+v", f)
	}
	for listen, want := range map[string]Verdict{"127.0.0.1:0": OK, "192.0.2.1:9001": Wrong, "nonsense": Wrong} {
		if f := of(t, "listen", Subject{Listen: listen}); f.Verdict != want {
			t.Errorf("%s: %+v", listen, f)
		}
	}
}

func TestAnAddressThatAdmitsEveryoneIsFoundBeforeANodeStarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		Subject
		want Verdict
	}{
		{Subject{Listen: "127.0.0.1:0"}, OK},
		{Subject{Listen: "0.0.0.0:0", Tokens: "tokens"}, OK},
		{Subject{Listen: "0.0.0.0:0"}, Wrong},
		{Subject{Listen: ":0"}, Wrong},
	} {
		if f := of(t, "listen access", c.Subject); f.Verdict != c.want {
			t.Errorf("%+v: %+v", c.Subject, f)
		}
	}
}

// issue writes a certificate with its key.
func issue(t *testing.T, template *x509.Certificate) auth.CertificateFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.Subject.CommonName = "one"
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := auth.CertificateFiles{Certificate: filepath.Join(t.TempDir(), "one.pem"), Key: filepath.Join(t.TempDir(), "one.key")}
	for path, block := range map[string]*pem.Block{files.Certificate: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestACertificateIsLookedAtBeforeItsEnd(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	days := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	for name, c := range map[string]struct {
		from, until time.Time
		want        Verdict
		saw         string
	}{
		"it is good":       {days(-1), days(90), OK, "valid until 2026-05-30"},
		"it ends soon":     {days(-1), days(29), Warning, `"one" expires on 2026-03-30, in 29 days`},
		"it ends today":    {days(-1), now.Add(90 * time.Minute), Warning, "in 2h0m0s"},
		"it has ended":     {days(-9), days(-1), Wrong, "has expired on 2026-02-28"},
		"it has not begun": {days(1), days(90), Wrong, "is valid from 2026-03-02 on"},
	} {
		files := issue(t, &x509.Certificate{NotBefore: c.from, NotAfter: c.until, DNSNames: []string{"node1.internal"}, IPAddresses: []net.IP{{127, 0, 0, 1}}})
		s := Subject{Certificates: files, Now: func() time.Time { return now }}
		if f := of(t, "certificate", s); f.Verdict != c.want || !strings.Contains(f.Saw, c.saw) {
			t.Errorf("%s: %+v", name, f)
		}
		if f := of(t, "certificate names", s); f.Verdict != OK || f.Saw != "it is for node1.internal, 127.0.0.1" {
			t.Errorf("%s: %+v", name, f)
		}
		if f := of(t, "certificate key", s); f.Verdict != OK {
			t.Errorf("%s: %+v", name, f)
		}
	}
	nameless := Subject{Certificates: issue(t, &x509.Certificate{NotBefore: days(-1), NotAfter: days(90)}), Now: func() time.Time { return now }}
	if f := of(t, "certificate names", nameless); f.Verdict != Warning {
		t.Errorf("one without names: %+v", f)
	}
}

func TestFilesThatDoNotFitAreWrong(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	one, two := ca.Issue(t, "one", "127.0.0.1"), ca.Issue(t, "two", "127.0.0.1")
	open := issue(t, &x509.Certificate{NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)})
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files auth.CertificateFiles
		part  string
		want  Verdict
	}{
		"another's key":      {auth.CertificateFiles{Certificate: one.Certificate, Key: two.Key}, "certificate key", Wrong},
		"no key":             {auth.CertificateFiles{Certificate: one.Certificate}, "certificate", Wrong},
		"no certificate":     {auth.CertificateFiles{Certificate: "none", Key: one.Key}, "certificate", Wrong},
		"a key for all":      {open, "certificate key file", Wrong},
		"exchanged":          {auth.CertificateFiles{Certificate: one.Key, Key: one.Certificate}, "certificate", Wrong},
		"authorities":        {auth.CertificateFiles{ClientCA: ca.File}, "client CA", Warning}, // it ends within an hour
		"no authority":       {auth.CertificateFiles{ClientCA: one.Certificate}, "client CA", Wrong},
		"no file with those": {auth.CertificateFiles{ClientCA: one.Key}, "client CA", Wrong},
	} {
		if f := of(t, c.part, Subject{Certificates: c.files, Now: time.Now}); f.Verdict != c.want || f.Saw == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if found, err := Examine(t.Context(), Subject{}); err != nil || len(found) != 0 {
		t.Errorf("without a subject %+v is found, %v", found, err)
	}
}

func TestTokensThatOthersMayReadAreWrong(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	for mode, want := range map[os.FileMode]Verdict{0o600: OK, 0o640: OK, 0o644: Wrong} {
		if err := os.WriteFile(path, []byte("ana 0123456789abcdef0123\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if f := of(t, "tokens", Subject{Tokens: path}); f.Verdict != want || strings.Contains(f.Saw, "0123456789") {
			t.Errorf("mode %o: %+v", mode, f)
		}
	}
}
