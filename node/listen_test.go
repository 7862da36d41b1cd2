package node

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/internal/testenv"
)

func TestAnAddressThatOthersCanReachIsRefusedWithoutTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{ // address → whether it is allowed without authentication
		"127.0.0.1:9001":          true,
		"127.9.9.9:9001":          true,
		"[::1]:9001":              true,
		"localhost:9001":          true,
		"[::ffff:127.0.0.1]:9001": true,
		"0.0.0.0:9001":            false,
		":9001":                   false,
		"[::]:9001":               false,
		"192.0.2.1:9001":          false,
		"[2001:db8::1]:9001":      false,
		"[fe80::1%1]:9001":        false,
		"[::ffff:192.0.2.1]:9001": false,
	}
	for listen, allowed := range tests {
		addr, err := resolveListen(listen)
		if err != nil {
			t.Errorf("%s: %v", listen, err)
			continue
		}
		err = checkTrust(addr, false)
		if allowed != (err == nil) {
			t.Errorf("%s: error %v, want allowed = %v", listen, err, allowed)
		}
		if err != nil && !containsAll(err.Error(), "--token-file FILE", "--listen 127.0.0.1:9001", "--insecure", addr.String()) {
			t.Errorf("%s: the error does not name the flags that help: %v", listen, err)
		}
		if err := checkTrust(addr, true); err != nil {
			t.Errorf("%s with --insecure: %v", listen, err)
		}
	}
}

func TestTokensAndClientCertificatesCountAsAuthentication(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	files := ca.Issue(t, "node", "localhost")
	load := func(clientCA string) *auth.Certificates {
		c, err := auth.LoadCertificates(auth.CertificateFiles{Certificate: files.Certificate, Key: files.Key, ClientCA: clientCA}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	tests := map[string]struct {
		config Config
		closed bool
	}{
		"nothing":            {Config{}, false},
		"a certificate":      {Config{Certificates: load("")}, false},
		"clients' authority": {Config{Certificates: load(ca.File)}, true},
		"tokens":             {Config{Tokens: someTokens(t)}, true},
		"insecure":           {Config{Insecure: true}, true},
	}
	for name, test := range tests {
		if got := test.config.isClosed(); got != test.closed {
			t.Errorf("%s: closed = %v", name, got)
		}
	}
}

func TestAUnixSocketNeedsNoTokens(t *testing.T) {
	t.Parallel()
	if err := checkTrust(&net.UnixAddr{Net: "unix", Name: "/run/posta"}, false); err != nil {
		t.Error(err)
	}
}

func TestAnInvalidListenAddressIsRefused(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"", "9001", "127.0.0.1", "127.0.0.1:http:1", "127.0.0.1:65536", "http://127.0.0.1:9001"} {
		if addr, err := resolveListen(listen); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("resolveListen(%q) = %v, %v", listen, addr, err)
		}
	}
}

func TestTheListenHostIsAllowedOverHTTP(t *testing.T) {
	t.Parallel()
	told := []string{"tasks.example"}
	tests := map[string][]string{
		"node1:9001":  {"tasks.example", "node1"},
		":9001":       {"tasks.example"},
		"[::1]:9001":  {"tasks.example", "::1"},
		"not-a-thing": {"tasks.example"},
	}
	for listen, want := range tests {
		if got := allowedHosts(listen, told); !slices.Equal(got, want) {
			t.Errorf("allowedHosts(%q) = %q, want %q", listen, got, want)
		}
	}
}

func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// someTokens returns a token file with one token.
func someTokens(t *testing.T) *auth.Tokens {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("ana 0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}
