package cli

import (
	"log/slog"
	"testing"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/internal/testenv"
)

func TestFlagsOfAServerComeInPairs(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	one := ca.Issue(t, "one", "127.0.0.1")
	for _, c := range []struct {
		args     []string
		some, ok bool
	}{
		{nil, false, true},
		{[]string{"--tls-cert", one.Certificate, "--tls-key", one.Key}, true, true},
		{[]string{"--tls-cert", one.Certificate, "--tls-key", one.Key, "--tls-client-ca", ca.File}, true, true},
		{[]string{"--tls-key", one.Key}, false, false},
		{[]string{"--tls-client-ca", ca.File}, false, false},
		{[]string{"--tls-cert", one.Key, "--tls-key", one.Certificate}, false, false},
	} {
		flags := pflag.NewFlagSet("node", pflag.ContinueOnError)
		server := addServerTLS(flags)
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		certificates, err := server.Load(slog.New(slog.DiscardHandler))
		if (err == nil) != c.ok || err == nil && (certificates != nil) != c.some {
			t.Errorf("%v: %v, %v", c.args, certificates, err)
		}
	}
}

func TestAClientSpeaksTLSOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	one := ca.Issue(t, "one", "127.0.0.1")
	for _, c := range []struct {
		args     []string
		some, ok bool
	}{
		{nil, false, true},
		{[]string{"--node-tls-ca", ca.File}, false, false},
		{[]string{"--node-tls-cert", one.Certificate, "--node-tls-key", one.Key}, false, false},
		{[]string{"--node-tls-key", "none"}, false, false},
		{[]string{"--node-tls"}, true, true},
		{[]string{"--node-tls", "--node-tls-ca", ca.File, "--node-tls-cert", one.Certificate, "--node-tls-key", one.Key}, true, true},
		{[]string{"--node-tls", "--node-tls-key", one.Key}, false, false},
		{[]string{"--node-tls", "--node-tls-ca", "none"}, false, false},
	} {
		flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
		client, names := addClientTLS(flags, "node-", "nodes")
		if err := flags.Parse(c.args); err != nil || len(names) != 4 {
			t.Fatal(err, names)
		}
		config, err := client.Config()
		if (err == nil) != c.ok || err == nil && (config != nil) != c.some || config != nil && config.InsecureSkipVerify {
			t.Errorf("%v: %v, %v", c.args, config, err)
		}
	}
}
