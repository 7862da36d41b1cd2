package server

import (
	"strings"
	"testing"
)

func TestTheCertificateOfARemoteServerIsVerified(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for url, verified := range map[string]bool{
		"postgres://u@db.example.org/posta":                   true,
		"postgres://u@192.0.2.1,127.0.0.1/posta":              true,
		"postgres://u@db.example.org/posta?sslmode=disable":   false,
		"postgres://u@127.0.0.1:5432/posta":                   false,
		"postgres://u@[::1]/posta":                            false,
		"postgres://u@localhost/posta":                        false,
		"postgres://u@/posta?host=%2Fvar%2Frun%2Fpostgresql":  false,
		"postgresql://u@/posta?host=db.example.org&port=5433": true,
		"postgres://u@127.0.0.1/posta?host=db.example.org":    true,
		"postgres://u@db.example.org/posta?sslmode=":          true,
		"postgres://u@db.example.org/posta?ssl=true":          true,
		"postgres://u@localhost,db.example.org/posta":         true,
	} {
		cfg, err := parse(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		c := cfg.ConnConfig
		got := c.TLSConfig != nil && !c.TLSConfig.InsecureSkipVerify && c.TLSConfig.ServerName != ""
		for _, f := range c.Fallbacks {
			got = got && f.TLSConfig != nil
		}
		if got != verified {
			t.Errorf("%s: verified %t, want %t", url, got, verified)
		}
		if c.RuntimeParams["search_path"] != schema {
			t.Errorf("%s: search_path %q", url, c.RuntimeParams["search_path"])
		}
	}
}

func TestTheCertificateOfAServerNamedByTheEnvironmentIsVerified(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	t.Setenv("PGHOST", "db.example.org")
	cfg, err := parse("postgres://u@/posta")
	if err != nil {
		t.Fatal(err)
	}
	if c := cfg.ConnConfig; c.TLSConfig == nil || c.TLSConfig.InsecureSkipVerify || len(c.Fallbacks) > 0 {
		t.Errorf("%s is reached with %+v, with fallbacks %+v", c.Host, c.TLSConfig, c.Fallbacks)
	}
}

func TestAnInvalidURLIsRefusedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "mysql://u:geheim@x/y", "postgres://u:geheim@[::1/x", "postgres://u:geheim@h/x?sslmode=perhaps",
		"postgres://u:geheim@h/x?pool_max_conns=many", "host=x password=geheim",
	} {
		if _, err := parse(url); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
