package client_test

import (
	"crypto/tls"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
)

func TestAClientUsesTLSAndVerifiesTheServer(t *testing.T) {
	t.Parallel()
	ca, otherCA := testenv.NewAuthority(t), testenv.NewAuthority(t)
	issued := ca.Issue(t, "node", "127.0.0.1")
	certificates, err := auth.LoadCertificates(auth.CertificateFiles{Certificate: issued.Certificate, Key: issued.Key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", Actions: actions.Builtin(), Certificates: certificates})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.Run(t.Context())
	}()
	t.Cleanup(func() { <-ended })
	for name, c := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"its authority":     {&tls.Config{RootCAs: ca.Pool}, true},
		"another authority": {&tls.Config{RootCAs: otherCA.Pool}, false},
		"plain text":        {nil, false},
	} {
		client, err := client.New(client.Config{Addr: n.Addr().String(), TLS: c.config, ConnectWait: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Ping(t.Context()); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}
