package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// askSecurely runs a verb against an address, inside TLS.
func askSecurely(t *testing.T, addr string, env []string, args ...string) typed {
	t.Helper()
	return typeIn(t, "", append(env, "POSTA_TO="+addr, "POSTA_TLS=true"), args...)
}

func TestTheCommandLineSpeaksTLS(t *testing.T) {
	t.Parallel()
	ca, otherCA := testenv.NewAuthority(t), testenv.NewAuthority(t)
	issued, own := ca.Issue(t, "node", "127.0.0.1"), ca.Issue(t, "me", "me.example")
	addr := testenv.FreeAddr(t)
	testenv.Node(t, addr, "--tls-cert", issued.Certificate, "--tls-key", issued.Key, "--tls-client-ca", ca.File, "--drain-delay", "0s")
	trusted := []string{"POSTA_TLS_CA=" + ca.File, "POSTA_TLS_CERT=" + own.Certificate, "POSTA_TLS_KEY=" + own.Key}
	for _, args := range [][]string{{"run", "upper", "hola"}, {"demo"}, {"doctor", "--ready"}, {"doctor"}, {"bench", "-n", "100", "-c", "2"}} {
		if got := askSecurely(t, addr, trusted, args...); got.code != 0 {
			t.Errorf("posta %v: exit code %d, %s", args, got.code, got.stderr)
		}
	}
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"who has no certificate":       {trusted[:1], "certificate"},
		"who trusts another authority": {append([]string{"POSTA_TLS_CA=" + otherCA.File}, trusted[1:]...), "--tls-ca names the authorities"},
		"who trusts the system's":      {trusted[1:], "--tls-ca names the authorities"},
	} {
		if got := askSecurely(t, addr, c.env, "run", "upper", "hola"); got.code != 3 || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: exit code %d, %s", name, got.code, got.stderr)
		}
	}
	if got := typeIn(t, "", nil, "run", "upper", "hola", "--to", addr); got.code == 0 || !strings.Contains(got.stderr, "TLS only") {
		t.Errorf("plain text: exit code %d, %s", got.code, got.stderr)
	}
}

func TestARenewedCertificateIsServedWithoutARestart(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	old, fresh := ca.Issue(t, "old", "127.0.0.1"), ca.Issue(t, "fresh", "127.0.0.1")
	addr := testenv.FreeAddr(t)
	testenv.Node(t, addr, "--tls-cert", old.Certificate, "--tls-key", old.Key, "--drain-delay", "0s")
	if name := certificateName(t, addr, ca.Pool); name != "old" {
		t.Fatalf("the first certificate is of %q", name)
	}
	for from, to := range map[string]string{fresh.Certificate: old.Certificate, fresh.Key: old.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, patience, func() error {
		if name := certificateName(t, addr, ca.Pool); name != "fresh" {
			return fmt.Errorf("the certificate is still of %q", name)
		}
		return nil
	})
}

// certificateName returns the common name of the certificate that is served.
func certificateName(t *testing.T, addr string, trusted *x509.CertPool) string {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: trusted}}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestBalancersCheckNodesInsideTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	issued, own := ca.Issue(t, "node", "127.0.0.1"), ca.Issue(t, "balancer", "balancer.example")
	node, front := testenv.FreeAddr(t), testenv.FreeAddr(t)
	testenv.Node(t, node, "--tls-cert", issued.Certificate, "--tls-key", issued.Key, "--tls-client-ca", ca.File, "--drain-delay", "0s")
	b := testenv.Start(t, testenv.Posta(t), "balancer", "run", "--listen", front, "--node", node,
		"--node-tls", "--node-tls-ca", ca.File, "--node-tls-cert", own.Certificate, "--node-tls-key", own.Key)
	trusted := []string{"POSTA_TLS_CA=" + ca.File, "POSTA_TLS_CERT=" + own.Certificate, "POSTA_TLS_KEY=" + own.Key}
	testenv.Eventually(t, patience, testenv.Accepts(front))
	if got := askSecurely(t, front, trusted, "run", "upper", "hola"); got.code != 0 {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	if strings.Contains(b.Output(), "node changed") && strings.Contains(b.Output(), `"state":"down"`) {
		t.Errorf("the node is taken for down: %s", b.Output())
	}

	testenv.NeedServer(t, "haproxy")
	both := own.Certificate + ".both"
	var text []byte
	for _, file := range []string{own.Certificate, own.Key} {
		part, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	if err := os.WriteFile(both, text, 0o600); err != nil {
		t.Fatal(err)
	}
	front = testenv.FreeAddr(t)
	printed := typeIn(t, "", nil, "balancer", "haproxy", "--listen", front, "--node", node, "--node-tls", "--node-tls-ca", ca.File, "--node-tls-cert", both)
	if printed.code != 0 {
		t.Fatal(printed.stderr)
	}
	ha := testenv.HAProxy(t, printed.stdout, front)
	testenv.Eventually(t, patience, func() error { return connected(askSecurely(t, front, trusted, "doctor", "--ready")) })
	if strings.Contains(ha.Output(), "is DOWN") {
		t.Errorf("HAProxy takes the node for down: %s", ha.Output())
	}
}

// connected turns an exit code into an error.
func connected(got typed) error {
	if got.code != 0 {
		return fmt.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	return nil
}

func TestPostaUpServesTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	issued := ca.Issue(t, "up", "127.0.0.1")
	front := testenv.FreeAddr(t)
	p := testenv.Start(t, testenv.Posta(t), "up", "--listen", front, "--nodes", "127.0.0.1:0,127.0.0.1:0", "--data", "",
		"--tls-cert", issued.Certificate, "--tls-key", issued.Key)
	testenv.Eventually(t, patience, testenv.Accepts(front))
	testenv.Eventually(t, patience, func() error {
		return connected(askSecurely(t, front, []string{"POSTA_TLS_CA=" + ca.File}, "run", "upper", "hola"))
	})
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, patience+time.Minute); code != 0 || strings.Contains(p.Output(), `"state":"down"`) {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
	got := typeIn(t, "", nil, "up", "--tls-cert", issued.Certificate, "--tls-key", issued.Key, "--tls-client-ca", ca.File)
	if got.code != 2 || !strings.Contains(got.stderr, "--node-tls-cert") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}

func TestFilesForTLSThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	one, other := ca.Issue(t, "one", "127.0.0.1"), ca.Issue(t, "other", "127.0.0.1")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"node", "--tls-cert", one.Certificate}, 2, "needs both"},
		{[]string{"node", "--tls-client-ca", ca.File}, 2, "needs both"},
		{[]string{"node", "--tls-cert", one.Certificate, "--tls-key", other.Key}, 78, "belong together"},
		{[]string{"run", "upper", "--tls-ca", ca.File}, 2, "--tls-ca is for TLS, and without --tls plain text is spoken"},
		{[]string{"run", "upper", "--tls-ca", "none.pem"}, 2, "without --tls plain text is spoken"},
		{[]string{"list", "--tls-cert", one.Certificate, "--tls-key", one.Key}, 2, "without --tls plain text is spoken"},
		{[]string{"doctor", "--to", "127.0.0.1:1", "--tls-cert", one.Certificate, "--tls-key", one.Key}, 2, "without --tls plain text is spoken"},
		{[]string{"balancer", "run", "--node", "127.0.0.1:9001", "--node-tls-ca", ca.File}, 2, "without --node-tls plain text is spoken"},
		{[]string{"demo", "--tls", "--tls-cert", one.Certificate}, 2, "one is missing"},
		{[]string{"demo", "--tls", "--tls-ca", one.Key}, 2, "holds no certificate"},
		{[]string{"balancer", "haproxy", "--node", "127.0.0.1:9001", "--node-tls-ca", "/ca.pem"}, 2, "for nodes that speak TLS"},
	} {
		if got := typeIn(t, "", nil, c.args...); got.code != c.code || !strings.Contains(got.stderr, c.want) {
			t.Errorf("posta %v: exit code %d, %s", c.args, got.code, got.stderr)
		}
	}
}

func TestAFileForTLSInTheEnvironmentIsNoPlainText(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	got := typeIn(t, "", []string{"POSTA_TLS_CA=" + ca.File, "POSTA_TOKEN=correct-horse-battery"}, "run", "upper", "hola")
	if got.code != 2 || !strings.Contains(got.stderr, "without --tls plain text is spoken") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}
